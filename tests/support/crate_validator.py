"""Validates an RO-Crate offline by its profile, process runs 0.5: `python tests/support/crate_validator.py CRATE`.

It needs the extra `validate`, which wants an older rich than the program; `make crate-check` gives it its own venv.
"""

from __future__ import annotations

import json
import logging
import sys
from pathlib import Path
from unittest.mock import patch


def issues(crate: Path) -> list[str]:
    """What the validator finds. It would fetch the terms of RO-Crate from the web; rocrate brings them along."""
    import rocrate
    from rocrate_validator import models, services
    from rocrate_validator.utils.http import HttpRequester

    terms = (Path(rocrate.__file__).parent / "data" / "ro-crate.jsonld").read_text("utf-8")

    class Response:
        status_code, ok, headers, text = 200, True, {"Content-Type": "application/ld+json"}, terms
        content = terms.encode()

        def json(self):
            return json.loads(terms)

        def raise_for_status(self):
            pass

    logging.disable(logging.CRITICAL)
    try:
        with patch.object(HttpRequester, "get", lambda self, url, **more: Response(), create=True):
            result = services.validate(
                services.ValidationSettings(
                    rocrate_uri=str(crate),
                    profile_identifier="process-run-crate-0.5",
                    requirement_severity=models.Severity.REQUIRED,
                    skip_availability_check=True,
                )
            )
    finally:
        logging.disable(logging.NOTSET)
    return [str(issue.message) for issue in result.get_issues()]


if __name__ == "__main__":
    found = issues(Path(sys.argv[1]))
    print("\n".join(found) or f"{sys.argv[1]}: valid, process-run-crate 0.5, every requirement")
    sys.exit(bool(found))
