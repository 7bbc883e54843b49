"""Hard parameter sharing: one trunk, every head on its last features.

Source: Caruana, "Multitask Learning", Machine Learning 1997.
"""

from __future__ import annotations

from polytask.sharing.trunk import Trunk


class Hard(Trunk):
    """The trunk family's defaults: every task runs the whole trunk and reads its last map."""
