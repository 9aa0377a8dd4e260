"""Operations of a forward and backward pass: one count, for estimates before a run and meters in it.

A multiplication and an addition are two operations, and only matrix products count:

weights    every weight of a layer's matrices, per input token: 2 forward, 2 for the gradient of the
           activations, 2 more for its own gradient if it is trained
head       the same for the output projection, per position that reaches it (``trainer.loss``)
attention  every pair of a position and one that it attends to, itself included: 4 x heads x head size
           forward (scores, and the sum of values), twice that backward. Causal: a sample of L tokens has
           L (L + 1) / 2 pairs.

Look-ups in tables of embeddings, norms, rotations and activation functions are left out. So is that the
first layer of a model with frozen embeddings needs no gradient of its input.
"""

from __future__ import annotations

from dataclasses import dataclass

from trainer.estimate.shape import Role, Shape


@dataclass(frozen=True)
class Operations:
    """Operations by what they are proportional to.

    Attributes:
        token: of one input token.
        pair: of one pair of positions of which one attends to the other.
        answer: of one position that reaches the output projection.
    """

    token: float
    pair: float
    answer: float

    def of(self, tokens: float, pairs: float, answers: float) -> float:
        """Of so many tokens, pairs and positions together."""
        return self.token * tokens + self.pair * pairs + self.answer * answers


def operations_of(shape: Shape, again: bool = False) -> Operations:
    """What a model computes for one step.

    Args:
        again: count the layers' forward twice, as activation checkpointing computes it but for each
            layer's last product: what the hardware does, and not what the model asks for.
    """
    layers, trained = shape.computed(Role.layer)
    head, trained_head = shape.computed(Role.head)
    attention = 4 * shape.layers * shape.attended
    return Operations(
        token=4 * layers + 2 * trained + (2 * layers if again else 0),
        pair=3 * attention + (attention if again else 0),
        answer=4 * head + 2 * trained_head,
    )
