"""A stack of their own for signal handlers."""

import faulthandler
import os
import sys


def use_signal_stack() -> None:
    """Run this thread's signal handlers on a stack of their own.

    oneDNN's float32 products for AVX-512 let the stack pointer point into a buffer on the heap while they compute
    (torch 2.11, `jit_avx512_common_gemm_f32`). A signal in that time, such as the SIGTERM that asks a run to stop,
    writes its frame there and corrupts the heap: the process aborts with "corrupted size vs. prev_size", or goes on
    with wrong numbers. faulthandler sets such a stack with `sigaltstack`,
    and Python's handlers ask for it (SA_ONSTACK).
    """
    if not faulthandler.is_enabled():
        # by number: a stream that has been replaced may have none
        faulthandler.enable(2 if sys.__stderr__ is not None else os.open(os.devnull, os.O_WRONLY))
