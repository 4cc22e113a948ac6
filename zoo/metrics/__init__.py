"""How a protocol turns scores into numbers: one `torchmetrics.Metric` a protocol."""
