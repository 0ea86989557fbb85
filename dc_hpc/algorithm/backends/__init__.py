"""How a net is computed fast; nobody needs this folder to understand the algorithm.

The rest of the package enters it in a few places. `training.training_step` makes a step of SGD, `evaluation.
evaluate_in_batches` gives the values of layers, `sgd.SGD` is the optimizer, `determinism.exact` surrounds a run, and
`kernels.compiled` serves k-means with few clusters.

    training_step, evaluate_in_batches
      cpu.py               decides: compiled blocks on a CPU, or torch
        blocks.py          convolution -> batch norm -> ReLU -> max-pool as one unit
          convolutions.py  four ways to compute a convolution, and which layer gets which
            toom_cook.py   the matrices of one of them
        linear.py, sgd.py  large Linear layers, whose gradient is never stored
      cuda_graph.py        on a GPU: a step is recorded once and replayed
    kernels.py             loops that numba compiles
    machine_code/          loops that are written for LLVM, the compiler under numba
    kernel_cache.py        keeps the machine code of both between processes

A change of the order of any sum here changes the bits of a run: then NUMERICS of `dc_hpc.algorithm` must rise.
"""
