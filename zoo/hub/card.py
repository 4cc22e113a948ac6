"""The model card of a published model: for people, and for the hub's own tables (``model-index``)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from zoo.hub.manifest import Checkpoint

if TYPE_CHECKING:
    from huggingface_hub import EvalResult, ModelCard

_METRICS = {"top1": ("accuracy", "Top-1 accuracy"), "top5": ("accuracy", "Top-5 accuracy"), "map": ("mAP", "mAP")}


def model_card(config: dict[str, Any], repo: str, checkpoint: Checkpoint | None) -> ModelCard:
    """The card of ``repo``.

    Args:
        config: what `zoo.hub.publish` writes into config.json.
        checkpoint: the manifest's entry that the weights are, if they are one; its scores are the card's.
    """
    from huggingface_hub import ModelCard, ModelCardData

    data = ModelCardData(
        model_name=config["model"],
        library_name="videozoo",
        pipeline_tag=config["task"],
        license=config["license"].lower() if config["license"] else None,
        datasets=list(checkpoint.trained_on) if checkpoint else None,
        tags=["video", "pytorch-lightning"],
        eval_results=_results(checkpoint, config["task"]) if checkpoint else None,
    )
    return ModelCard(f"---\n{data.to_yaml()}\n---\n\n{_body(config, repo, checkpoint)}")


def _results(checkpoint: Checkpoint, task: str) -> list[EvalResult] | None:
    """Measured scores first, then what the publisher of the weights reported, each saying whose it is."""
    from huggingface_hub import EvalResult

    reported = checkpoint.reported
    dataset = reported.protocol.dataset if reported else checkpoint.trained_on[-1]

    def results(scores: dict[str, float], whose: str) -> list[EvalResult]:
        return [
            EvalResult(
                task_type=task,
                dataset_type=dataset,
                dataset_name=dataset,
                dataset_split=reported.protocol.split if reported else "val",
                metric_type=_METRICS.get(metric, (metric, metric))[0],
                metric_name=f"{_METRICS.get(metric, (metric, metric))[1]} ({whose})",  # the index has no field for it
                metric_value=value,
            )
            for metric, value in scores.items()
        ]

    found = results(checkpoint.measured, "measured")
    if reported:
        found += results(reported.scores, f"reported by {reported.by}")
    return found or None


def _body(config: dict[str, Any], repo: str, checkpoint: Checkpoint | None) -> str:
    spec = config["spec"]
    lines = [
        f"# {config['model']}",
        "",
        f"Weights of `{config['model']}` for videozoo {config['version']}.",
        "",
        "```python",
        "import zoo",
        "",
        f'model = zoo.load("hf://{repo}")',
        config["example"],
        "```",
        "",
        f"- Input: {spec['frames']} frames, every {spec['stride']}; {spec['crop']} x {spec['crop']} pixels, RGB, "
        f"mean {spec['mean']}, std {spec['std']}.",
        *([f"- Classes: {len(config['labels'])}."] if config["labels"] else []),
        f"- Licence of the weights: {config['license'] or 'not stated by who published them here'}.",
    ]
    if checkpoint:
        lines += [
            f"- Licence of the code that trained them: {checkpoint.code_license}.",
            f"- Trained on: {', then '.join(checkpoint.trained_on)}.",
            f"- Source: {checkpoint.source} (`{checkpoint.name}`).",
        ]
        if checkpoint.notes:
            lines += [f"- {checkpoint.notes}"]
        if reported := checkpoint.reported:
            p = reported.protocol
            scores = ", ".join(f"{metric} {value:g}" for metric, value in reported.scores.items())
            lines += [
                f"- Reported by {reported.by}: {scores} on {p.dataset} {p.split}: {p.in_words}.",
            ]
    lines += [
        "",
        "`config.json` holds the SHA-256 of the other files, and `proof.safetensors` an input with the outputs that "
        f"the model must give for it; `zoo verify hf://{repo}` recomputes both.",
        "",
    ]
    return "\n".join(lines)
