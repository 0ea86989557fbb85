"""Loops that numba cannot make fast, written as instructions for LLVM through llvmlite, which numba brings along.

`tile_transforms` and `panel_products` hold the functions that other modules call with tensors. Each writes its code at
the first call, or loads it from the kernel cache, and calls it with addresses and lengths. `panel_code` writes the
loops of products of matrices that `panel_products` is made of.

How the writing code is to be read: `ir` is the module llvmlite.ir. `builder` appends instructions to the function that
is being written, so that a Python loop here repeats instructions there, while `tile_transforms.loop` writes a loop that
the machine code executes. `kind` is the type of the numbers at hand, one float32 or a vector of them; only a vector has
`count`. Variables of the machine code have the type Any, since llvmlite has no types.

The compiled functions check nothing. The Python functions in front of them check shapes and strides with `assert`,
because a wrong one reads or writes memory of something else; `python -O` removes these checks.
"""
