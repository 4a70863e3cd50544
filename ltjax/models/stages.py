"""Backbones made of stages of blocks, which can be split in two to build other networks."""

from typing import ClassVar

import flax.linen as nn


class Staged(nn.Module, kw_only=True):
    """A stem and stages of residual blocks, or only some of the blocks.

    A backbone that derives from this has `widths`, those of all its stages, as a field and calls
    the blocks that `parts` names. Parts have the arrays of the whole, by the same names.
    """

    start: int = 0  # of the blocks; if it is not 0, there is no stem, and maps are read
    stop: int | None = None  # of the blocks
    branches_from: ClassVar[int]  # the stage, counted from 0, that RIDE's branches begin with

    def depths(self) -> tuple[int, ...]:
        """How many blocks each stage of the whole has."""
        raise NotImplementedError

    def parts(self) -> list[tuple[int, int]]:
        """(stage, block of that stage), both counted from 0, from `start` to `stop`."""
        blocks = [(stage, i) for stage, depth in enumerate(self.depths()) for i in range(depth)]
        return blocks[self.start : self.stop]

    def before_and_last_block(self) -> tuple[nn.Module, nn.Module]:
        """All blocks but the last, and the last block, which reads the maps of the others."""
        return self._split(-1, self.widths)

    def trunk_and_branch(self, reduced: bool) -> tuple[nn.Module, nn.Module]:
        """The early stages and the late ones, which can be repeated.

        Args:
          reduced: whether the late stages are three quarters as wide, as in RIDE's code.
        """
        early, late = self.widths[: self.branches_from], self.widths[self.branches_from :]
        widths = early + tuple(3 * width // 4 for width in late) if reduced else self.widths
        return self._split(sum(self.depths()[: self.branches_from]), widths)

    def _split(self, at, widths):
        return self.clone(stop=at), self.clone(start=at, widths=widths)
