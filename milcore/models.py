"""The networks, S of them side by side: parameters carry a leading model axis and one batched product serves all.

Every pooling is a weighted mean of cell evidence, so a network has no layer after it. `mean` weighs cells equally;
`attention` by the softmax of a gated attention logit (Ilse, Tomczak & Welling, ICML 2018); `topk` counts the share of
cells that argue most for one side, and no others (as CellCnn: Arvaniti & Claassen, Nat Commun 2017). Forward only.
"""

from __future__ import annotations

import math

import torch
from torch import nn

__all__ = ["POOLINGS", "Networks"]

POOLINGS = ("attention", "mean", "topk")  # the poolings whose evidence is a learnt network
HIDDEN = 32
GATE = 16


class Networks(nn.Module):
    """S networks over F features, each with its own scaling of the features: `mean`, `sd` (S, F)."""

    mean: torch.Tensor
    sd: torch.Tensor

    def __init__(
        self, mean: torch.Tensor, sd: torch.Tensor, draw: torch.Generator, *, attends: bool, outputs: int
    ) -> None:
        super().__init__()
        S, F = mean.shape

        def layer(inputs: int, outputs: int) -> nn.Parameter:
            bound = math.sqrt(3 / inputs)
            return nn.Parameter((torch.rand(S, inputs, outputs, generator=draw) * 2 - 1) * bound)

        self.register_buffer("mean", mean[:, None])
        self.register_buffer("sd", sd[:, None])
        self.embed, self.embed_bias = layer(F, HIDDEN), nn.Parameter(torch.zeros(S, 1, HIDDEN))
        self.head, self.bias = layer(HIDDEN, outputs), nn.Parameter(torch.zeros(S, 1, outputs))
        self.outputs, self.attends = outputs, attends
        if self.attends:
            self.tanh_gate, self.sigmoid_gate = layer(HIDDEN, GATE), layer(HIDDEN, GATE)
            self.look = layer(GATE, 1)

    @classmethod
    def restored(cls, parts: dict[str, torch.Tensor]) -> Networks:
        """Networks of such parameters and scalings as `state_dict` gave."""
        outputs, attends = parts["head"].shape[-1], "look" in parts
        scaling = (parts["mean"][:, 0], parts["sd"][:, 0])
        made = cls(*scaling, torch.Generator(), attends=attends, outputs=outputs)
        made.load_state_dict(parts)
        return made

    def forward(
        self, x: torch.Tensor, models: slice = slice(None)
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Features (S, n, F), missing values NaN -> evidence (S, n, K), centred over several outputs, and
        attention logits (S, n), None where cells do not differ in attention. Scales x in place: a step's time is
        mostly memory traffic.

        `models` picks some of the S; x then has as many.
        """
        x.sub_(self.mean[models]).div_(self.sd[models])
        torch.nan_to_num(x, out=x)  # a missing value is the training mean
        h = torch.baddbmm(self.embed_bias[models], x, self.embed[models]).relu_()  # (S, n, H)
        evidence = torch.baddbmm(self.bias[models], h, self.head[models])
        if self.outputs > 1:
            evidence = evidence - evidence.mean(-1, keepdim=True)
        if not self.attends:
            return evidence, None
        gate = (h @ self.tanh_gate[models]).tanh_() * (h @ self.sigmoid_gate[models]).sigmoid_()
        return evidence, (gate @ self.look[models])[..., 0]
