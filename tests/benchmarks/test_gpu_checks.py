"""What the first part of `gpu.py` compares."""

from gpu_checks import short_run


def test_the_device_is_compared_with_the_cpu_before_anything_is_compiled() -> None:
    """Else a fault of the compiler is taken for one of the kernels, and minutes go to compiling."""
    assert short_run("supcon").compile is False
    assert short_run("supcon", compile=True).compile is True
