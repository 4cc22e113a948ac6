"""VGG-16 (Simonyan and Zisserman, ICLR 2015) up to its second fully connected layer, of images or stacks of flow.

Modules have torchvision's names (``features.N``, ``classifier.0`` and ``classifier.3``), under which weights are
published; the classifier's last layer is left to whoever puts a head on it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor, nn


class Vgg16(nn.Module):
    """Blocks of 3 x 3 convolutions, each followed by a pooling, and two fully connected layers.

    Attributes:
        out_features: of what comes out.
    """

    def __init__(
        self,
        in_channels: int = 3,
        dropout: tuple[float, float] = (0.5, 0.5),
        *,
        widths: Sequence[int] = (64, 128, 256, 512, 512),
        blocks: Sequence[int] = (2, 2, 3, 3, 3),
        hidden: int = 4096,
        side: int = 7,
    ) -> None:
        """
        Args:
            in_channels: 3 for RGB, 20 for ten fields of flow.
            dropout: after the first and the second fully connected layer, while training.
            widths: channels of the blocks.
            blocks: convolutions in each.
            hidden: width of the fully connected layers.
            side: of the last block's map as the first of them takes it, 7 for images of 224 pixels; of images of
                another size means are taken.
        """
        super().__init__()
        layers: list[nn.Module] = []
        channels = in_channels
        for width, count in zip(widths, blocks, strict=True):
            for _ in range(count):
                layers += [nn.Conv2d(channels, width, 3, padding=1), nn.ReLU(inplace=True)]
                channels = width
            layers.append(nn.MaxPool2d(2))
        self.features = nn.Sequential(*layers)
        self.pool = nn.AdaptiveAvgPool2d(side)
        self.classifier = nn.Sequential(
            nn.Linear(channels * side**2, hidden),
            nn.ReLU(inplace=True),
            nn.Dropout(dropout[0]),
            nn.Linear(hidden, hidden),
            nn.ReLU(inplace=True),
            nn.Dropout(dropout[1]),
        )
        self.out_features = hidden
        for module in self.modules():
            if isinstance(module, (nn.Conv2d, nn.Linear)):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
                nn.init.zeros_(module.bias)

    def forward(self, frames: Tensor) -> Tensor:
        """Normalised frames ``[N, C, H, W]``, of 32 pixels at least, to ``[N, out_features]`` (fc7 after its ReLU)."""
        return self.classifier(self.pool(self.features(frames)).flatten(1))


def vgg_from_timm(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """timm's VGG-16, whose fully connected layers are convolutions there, under torchvision's names, without head."""
    renamed = {"pre_logits.fc1": "classifier.0", "pre_logits.fc2": "classifier.3"}
    found = {}
    for key, value in state.items():
        layer, _, kind = key.rpartition(".")
        layer = renamed.get(layer, layer)
        if not layer.startswith("head"):
            flat = layer.startswith("classifier") and kind == "weight"
            found[f"{layer}.{kind}"] = value.flatten(1) if flat else value
    return found
