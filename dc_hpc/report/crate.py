"""Writes an RO-Crate: the runs, the claims and the tables as one object that can be cited, with its own description.

The crate follows the profile for runs of a process (https://w3id.org/ro/wfrun/process/0.5). Each run is an action with
its settings, its result and the commit of the program. Each claim is an outcome that confirms, disputes, discusses or
cites the paper, in the words of the vocabulary CiTO, which replication studies use (FORRT).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dc_hpc.errors import InputError
from dc_hpc.report.claims.table import verdict_words, which_runs
from dc_hpc.report.findings import Findings
from dc_hpc.report.frames.runs import records
from dc_hpc.report.frames.schema import RESULTS, SETTINGS
from dc_hpc.report.panels.grouping import Row
from dc_hpc.storage import atomic_files

if TYPE_CHECKING:
    from rocrate.rocrate import ROCrate

PROFILE = "https://w3id.org/ro/wfrun/process/0.5"
CITO = "http://purl.org/spar/cito/"
# verdict -> how the outcome cites the paper
RELATIONS = {"supported": "confirms", "contradicted": "disputes", "undecided": "discusses", "not run": "cites"}
_ROOT = Path(__file__).parents[2]
_PAPER, _DEVELOPERS = "#paper", "#developers"
_URL = "https://pypi.org/project/dc-hpc/"
_ENDINGS = {".csv": "text/csv", ".md": "text/markdown", ".png": "image/png", ".cff": "text/yaml", "": "text/plain"}
_STATUS = {"done": "CompletedActionStatus", "failed": "FailedActionStatus"}


def check(directory: Path) -> None:
    """Raise InputError unless a crate can be written into the directory."""
    try:
        import rocrate  # noqa: F401
    except ImportError:
        raise InputError("--crate needs the library rocrate; install it: pip install 'dc-hpc[crate]'") from None
    if directory.exists() and (not directory.is_dir() or any(directory.iterdir())):
        raise InputError(f"--crate {directory} exists and is not empty; give the name of a new folder")


def write_crate(findings: Findings, outputs: Path, directory: Path, *, tables: Iterable[str], date: str) -> int:
    """Write the crate; returns its size in bytes.

    outputs: where the tables and figures are, perhaps with those of other runs. tables: the names of those that belong
    to the findings, as of `write_tables`. date: ISO 8601. InputError where nothing can be written into the directory.
    """
    from rocrate.rocrate import ROCrate

    crate = ROCrate(version="1.1")
    crate.metadata.extra_contexts.append({"cito": CITO})
    files = dict(_files(findings, outputs, sorted(tables)))
    _describe(crate, files, date)
    for row in findings.rows:
        if row["state"] in _STATUS:
            _add_run(crate, row)
    if findings.of_the_paper:
        _add_claims(crate, findings)
    text = json.dumps(crate.metadata.generate(), indent=1, ensure_ascii=False) + "\n"
    try:
        for name, content in files.items():
            atomic_files.make_directory((directory / name).parent)
            atomic_files.replace_bytes(directory / name, content)
        atomic_files.write_text(directory / "ro-crate-metadata.json", text)
    except OSError as error:
        raise InputError(f"--crate {directory} cannot be written ({error.strerror}); give a new folder") from None
    return len(text.encode()) + sum(map(len, files.values()))


def _files(findings: Findings, outputs: Path, tables: Sequence[str]) -> Iterable[tuple[str, bytes]]:
    """Name in the crate -> content: citation, licence, the tables as CSV and Markdown, the figures as PNG."""
    for name in ("CITATION.cff", "LICENSE"):
        if (_ROOT / name).is_file():
            yield name, (_ROOT / name).read_bytes()
    figures = sorted(found.panel.name for found in findings.shown if not found.error)
    for folder, names, ending in (("tables", tables, "csv"), ("tables", tables, "md"), ("figures", figures, "png")):
        for name in (f"{folder}/{one}.{ending}" for one in names):
            if (outputs / name).is_file():
                yield name, (outputs / name).read_bytes()


def _describe(crate: ROCrate, files: dict[str, bytes], date: str) -> None:
    root = crate.root_dataset
    root["name"] = 'Runs, tables and claims of "A Deep Dive into Deep Cluster", reproduced with dc_hpc'
    root["description"] = (
        "What dc_hpc measured of the paper's experiments: every run with its settings, result and commit, every claim "
        "with its statistic, interval and verdict, and the tables and figures made of them."
    )
    root["datePublished"] = date
    root["license"] = {"@id": "LICENSE" if "LICENSE" in files else "https://spdx.org/licenses/BSD-3-Clause"}
    _add(crate, _DEVELOPERS, "Organization", name="The dc_hpc developers", url=_URL)  # as in CITATION.cff
    root["author"] = root["publisher"] = {"@id": _DEVELOPERS}
    _add(crate, PROFILE, "CreativeWork", name="Process Run Crate", version="0.5")
    root["conformsTo"] = {"@id": PROFILE}
    paper = {"name": "A Deep Dive into Deep Cluster", "datePublished": "2022"}
    authors = [("Ahmad", "Mustapha"), ("Wael", "Khreich"), ("Wassim", "Masri")]
    for first, last in authors:
        _add(crate, f"#{last.lower()}", "Person", name=f"{first} {last}")
    _add(crate, _PAPER, "ScholarlyArticle", **paper, author=[{"@id": f"#{last.lower()}"} for _, last in authors])
    root["citation"] = {"@id": _PAPER}
    for name, content in files.items():
        path = Path(name)
        more = {"encodingFormat": _ENDINGS.get(path.suffix, "text/plain"), "contentSize": str(len(content))}
        crate.add_file(dest_path=name, properties={"name": path.name, **more})


def _add_run(crate: ROCrate, row: Row) -> None:
    """A run as an action: its settings are the object, its numbers the result, the program at its commit the tool."""
    commit = row.get("commit") or ""
    program = f"{_URL}#{commit}" if commit else _URL
    if crate.get(program) is None:
        version_of = commit or version("dc-hpc")
        _add(crate, program, "SoftwareApplication", name="dc_hpc", url=_URL, softwareVersion=version_of)
    name = row["run_id"]
    settings = {key: row.get(key) for key in SETTINGS if row.get(key) is not None}
    numbers = {key: row[key] for key in row if _is_result(key) and row[key] is not None}
    parts = []
    for what, values in (("settings", settings), ("result", numbers)):
        part = f"#{name}-{what}"
        _add(crate, part, "PropertyValue", name=f"{what} of {name}", value=json.dumps(values, sort_keys=True))
        parts.append({"@id": part})
    _add(
        crate,
        f"#{name}",
        "CreateAction",
        name=name,
        description=f"One run of dc_hpc on {row['dataset']}, seed {row['seed']}.",
        instrument={"@id": program},
        object=parts[0],
        result=parts[1],
        actionStatus=f"http://schema.org/{_STATUS[row['state']]}",
    )
    crate.root_dataset.append_to("mentions", {"@id": f"#{name}"})


def _add_claims(crate: ROCrate, findings: Findings) -> None:
    """Each claim and setting as an outcome with its statistic, n and deviations."""
    places: dict[str, int] = {}
    for claim, which in zip(records(findings.verdicts), which_runs(findings.verdicts)):
        name = f"{claim['figure']}.{claim['claim']}"
        places[name] = places.get(name, 0) + 1
        identifier = f"#outcome-{name}-{places[name]}"
        numbers = {
            "statistic": {"value": claim["value"], "minValue": claim["low"], "maxValue": claim["high"]},
            "n": {"value": claim["n"]},
            "planned n": {"value": claim["planned_n"]},
            "p": {"value": claim["p"]},
            "p after Holm's correction": {"value": claim["p_holm"]},
            "deviations from the paper": {"value": claim["unlike_paper"] or "none"},
        }
        parts = []
        for what, values in numbers.items():
            known = {key: value for key, value in values.items() if value is not None}
            if "value" in known:
                part = f"{identifier}-{what.replace(' ', '-')}"
                title = claim["statistic"] if what == "statistic" else what
                _add(crate, part, "PropertyValue", name=title, propertyID=what, **known)
                parts.append({"@id": part})
        properties = {f"cito:{RELATIONS[claim['verdict']]}": {"@id": _PAPER}}
        _add(
            crate,
            identifier,
            "Claim",
            name=f"{name}: {verdict_words(claim)}",
            text=claim["words"],
            description=f"{which}; {claim['statistic']} should lie {claim['rule']}. {claim['reason']}".strip(),
            additionalProperty=parts,
            **properties,
        )
        crate.root_dataset.append_to("mentions", {"@id": identifier})


def _add(crate: ROCrate, identifier: str, kind: str, **properties: Any) -> None:
    from rocrate.model.contextentity import ContextEntity

    crate.add(ContextEntity(crate, identifier, properties={"@type": kind, **properties}))


def _is_result(name: str) -> bool:
    return name in RESULTS or name.startswith("accuracy_") or name == "trunk_sha256"
