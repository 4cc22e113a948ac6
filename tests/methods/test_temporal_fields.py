from __future__ import annotations

import pytest
import torch

from zoo import registry
from zoo.data.activities import packaged_vocabulary
from zoo.errors import ZooError
from zoo.methods.temporal_field_model import Field, field_states
from zoo.methods.temporal_field_words import vocabulary_of

WORLD = {
    "mapping": [[1, 0], [1, 1], [2, 0], [2, 1], [3, 1]],
    "objects": ["none", "door", "cup", "book"],
    "verbs": ["open", "take"],
}


def batch(seed: int = 0, rows: int = 12, videos: int = 3) -> dict[str, torch.Tensor]:
    """Frames whose colour tells the class."""
    draw = torch.Generator().manual_seed(seed)
    label = torch.randint(5, (rows,), generator=draw)
    rgb = (40 * label[:, None, None, None] + torch.randint(30, (rows, 3, 32, 32), generator=draw)).to(torch.uint8)
    return {
        "rgb": rgb,
        "rgb_time": torch.randint(1, 200, (rows,), generator=draw),
        "video": torch.randint(videos, (rows,), generator=draw),
        "label": label,
        "progress": torch.randint(3, (rows,), generator=draw),
        "scene": torch.full((rows,), -1),
    }


def tiny(**options):
    torch.manual_seed(0)
    return registry.create("temporal_fields_tiny", **WORLD, **options)


def learnt(model, steps: int = 20) -> tuple[float, float]:
    """The mean log-likelihood of the labels in the first and in the last three batches."""
    optimizer = torch.optim.SGD(model.parameters(), 0.05, momentum=0.9)
    likelihoods = []
    for step in range(steps):
        shown = batch(step % 2)
        loss, likelihood = model.loss(model(model.inputs(shown)), shown)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        likelihoods.append(float(likelihood))
    return sum(likelihoods[:3]) / 3, sum(likelihoods[-3:]) / 3


class TestStates:
    def test_charades_as_released(self):
        """Classes with the same object and verb are one category there; each is possible in three progresses."""
        vocabulary = packaged_vocabulary()
        states, category = field_states(vocabulary, Field(released=True))
        pairs = len(set(vocabulary.mapping))
        assert len(states) == 3 * pairs
        assert (states.units, states.scenes) == (114, 1)
        assert (
            category[vocabulary.classes.index("Turning on a light")]
            == category[vocabulary.classes.index("Turning off a light")]
        )
        order = list(zip(states.op.tolist(), states.ap.tolist(), strict=True))
        assert order == sorted(order)

    def test_charades_as_the_paper_has_it(self):
        states, category = field_states(packaged_vocabulary(), Field(released=False, scenes=True))
        assert (len(states), states.units, states.scenes) == (471, 38, 16)
        assert category.tolist() == list(range(157))

    def test_without_progress(self):
        states, _ = field_states(packaged_vocabulary(), Field(released=False, progress=1))
        assert (len(states), states.progresses) == (157, 1)

    def test_names_count_without_a_mapping_too(self):
        own = packaged_vocabulary()
        assert vocabulary_of(None, None, None, None, None) == own
        assert vocabulary_of(None, None, None, ["Kitchen", "Other"], None).scenes == ("Kitchen", "Other")

    def test_senseless_options(self):
        with pytest.raises(ZooError, match="3 parts"):
            Field(progress=2)
        with pytest.raises(ZooError, match="rounds"):
            Field(rounds=0)
        with pytest.raises(ZooError, match="hidden"):
            Field(hidden=-1)


class TestLearning:
    @pytest.mark.parametrize(
        "options",
        [
            {},
            {"pairwise": False},
            {"intents": 0},
            {"pairwise": False, "intents": 0},
            {"progress": 1},
            {"hidden": 16},
            {"together": 4},
        ],
        ids=str,
    )
    def test_the_labels_become_likelier(self, options):
        first, last = learnt(tiny(**options))
        assert last > first + 0.3

    def test_what_is_left_out_is_not_there(self):
        names = {
            name.split(".")[1] for name in tiny(pairwise=False, intents=0).state_dict() if name.startswith("head.")
        }
        assert names == {"op", "ap", "coap"}
        assert {"mu", "xi_constant"} <= {n.split(".")[1] for n in tiny().state_dict() if n.startswith("head.")}

    def test_frames_hear_what_others_said_before(self):
        model = tiny()
        model.loss(model(model.inputs(batch(0))), batch(0))
        assert len(model.server) == len(batch(0)["video"].unique())
        mail = model.server.receive(batch(1)["video"], batch(1)["rgb_time"])
        assert (mail.count("all") > 0).all()

    def test_synchronous_training_sends_nothing(self):
        model = tiny(together=4)
        model.loss(model(model.inputs(batch(0))), batch(0))
        assert len(model.server) == 0

    def test_every_weight_learns(self):
        model = tiny(hidden=16)
        for module in model.backbone.modules():  # timm's residual branches start at nothing
            if isinstance(module, torch.nn.BatchNorm2d):
                torch.nn.init.ones_(module.weight)
        for step in range(2):  # mu learns from the second batch on, when there is mail
            model.zero_grad()
            model.loss(model(model.inputs(batch(step))), batch(step))[0].backward()
        assert [name for name, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum()] == []


class TestWholeVideos:
    def test_a_video_does_not_depend_on_its_company(self):
        model = tiny().eval()
        one, two = batch(1, 6, 1), batch(2, 9, 1)
        both = {key: torch.cat([one[key], two[key]]) for key in ("rgb", "rgb_time")}
        with torch.inference_mode():
            together = model.scores({**both, "lengths": torch.tensor([6, 9])})
            alone = model.scores({**two, "lengths": torch.tensor([9])})
        torch.testing.assert_close(together[1][0], alone[0][0])
        torch.testing.assert_close(together[1][1], alone[0][1])

    def test_scores_are_probabilities(self):
        model = tiny().eval()
        with torch.inference_mode():
            scores, moments = model.scores({**batch(0), "lengths": torch.tensor([12])})[0]
        torch.testing.assert_close(moments.sum(1), torch.ones(12))
        torch.testing.assert_close(scores, moments.amax(0))

    def test_another_frame_changes_what_is_believed_of_this_one(self):
        model, draw = tiny().eval(), torch.Generator().manual_seed(0)
        features = 3 * torch.randn(4, model.width, generator=draw)
        other = torch.cat([features[:3], -features[3:]])
        times = torch.tensor([1, 20, 40, 60])
        with torch.inference_mode():
            model.head.mu.normal_(std=5, generator=draw)
            a, b = (model.classes_of(model.infer(model.head(x), times)) for x in (features, other))
        assert not torch.allclose(a[0], b[0], atol=1e-3)


class TestResuming:
    def test_a_checkpoint_remembers_the_messages(self):
        model, saved = tiny(), {}
        model.loss(model(model.inputs(batch(0))), batch(0))
        model.on_save_checkpoint(saved)
        assert saved["message_server"]["video"].tolist() == list(model.server._place)
        assert saved["zoo"]["arguments"]["mapping"] == WORLD["mapping"]
