"""What can be said of a search before it starts, from its file alone."""

from rwood.config.run import RunConfig
from rwood.config.search import SearchConfig
from rwood.search.pruner import build_pruner
from rwood.search.sampler import build_sampler


def check_search(run: RunConfig, search: SearchConfig) -> None:
    """Make the sampler and the pruner that a search names, and throw them away.

    Raises:
        SpecError: no such class or argument, a value that the class refuses, or a first rung inside
            the warm-up.
    """
    build_pruner(run, search)
    build_sampler(run, search, number=0)
