"""An effect in doubt, of which a person says whether it happened."""

from __future__ import annotations

from ...graphstore.canonical import Json, encode
from ...graphstore.model import EffectState, SideEffect
from ...graphstore.store import GraphStore
from ..errors import ConfigurationError, EffectUnknown

__all__ = ["resolve"]


async def resolve(store: GraphStore, id_: str, *, done: bool, output: Json) -> SideEffect:
    """Keep whether an effect happened that was in doubt. See ``Engine.resolve``."""
    effect = await store.effect(id_)
    if effect is None:
        raise EffectUnknown(id_, store)
    text = None if output is None else encode(output)
    ended = effect.ended(text) if done else effect.not_performed()
    if effect.state is EffectState.INTENDED:
        await store.end_effect(ended)
        effect = await store.effect(id_) or ended  # its process may have told meanwhile
    if effect.state is not ended.state:
        raise ConfigurationError(
            f"the effect {id_} of {effect.tool} is no longer in doubt: it is {effect.state}, and"
            " stays so"
        )
    return effect
