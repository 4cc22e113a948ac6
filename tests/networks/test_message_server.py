import pytest
import torch

from zoo.errors import ZooError
from zoo.networks.message_server import MessageServer


def numbers(*values: int) -> torch.Tensor:
    return torch.tensor(values)


def sent(server: MessageServer, *letters: tuple[int, int, float]) -> MessageServer:
    """One message after another: (video, time, what it says)."""
    for video, time, value in letters:
        server.send(numbers(video), numbers(time), say=torch.tensor([[value]]))
    return server


def heard(server: MessageServer, video: int, time: int, side: str, **options: bool) -> float:
    return float(server.receive(numbers(video), numbers(time)).gather("say", side, **options))


class TestWhoHearsWhat:
    def test_nobody_has_said_anything(self):
        mail = MessageServer({"say": 2}).receive(numbers(7, 8), numbers(1, 2))
        assert mail.gather("say", "past").tolist() == [[0, 0], [0, 0]]
        assert mail.count("all").tolist() == [0, 0]

    def test_of_its_own_video_only(self):
        server = sent(MessageServer({"say": 1}), (1, 10, 5.0), (2, 10, 7.0))
        assert heard(server, 1, 10, "all", fade=False) == 5
        assert heard(server, 3, 10, "all", fade=False) == 0

    def test_earlier_and_later_ones_apart(self):
        server = sent(MessageServer({"say": 1}), (1, 10, 5.0), (1, 30, 7.0))
        assert heard(server, 1, 20, "past", fade=False) == 5
        assert heard(server, 1, 20, "future", fade=False) == 7

    @pytest.mark.parametrize(("strict", "count"), [(False, 1), (True, 0)])
    def test_its_own_older_message(self, strict, count):
        server = sent(MessageServer({"say": 1}, strict=strict), (1, 10, 5.0))
        assert server.receive(numbers(1), numbers(10)).count("past").item() == count

    def test_far_ones_less(self):
        server = sent(MessageServer({"say": 1}, sigma=150), (1, 0, 1.0))
        assert heard(server, 1, 150, "past") == pytest.approx(float(torch.tensor(-0.5).exp()))

    @pytest.mark.parametrize(("emphasis", "newest"), [("recent", 1 / 1.9), ("oldest", 0.9 / 1.9)])
    def test_the_newest_or_the_oldest_most(self, emphasis, newest):
        server = sent(MessageServer({"say": 1}, decay=0.9, emphasis=emphasis), (1, 5, 0.0), (1, 6, 1.0))
        assert heard(server, 1, 7, "past", fade=False) == pytest.approx(newest)

    def test_the_order_is_that_of_sending_not_of_time(self):
        server = sent(MessageServer({"say": 1}, decay=0.5), (1, 9, 0.0), (1, 2, 1.0))
        assert heard(server, 1, 10, "past", fade=False) == pytest.approx(2 / 3)


class TestMemory:
    def test_a_frame_seen_again_replaces_its_message(self):
        server = sent(MessageServer({"say": 1}), (1, 10, 5.0), (1, 20, 1.0), (1, 10, 6.0))
        assert server.times(1).tolist() == [20, 10]

    def test_or_both_are_kept(self):
        server = sent(MessageServer({"say": 1}, overwrite=False), (1, 10, 5.0), (1, 10, 6.0))
        assert server.times(1).tolist() == [10, 10]

    def test_the_oldest_goes(self):
        server = sent(MessageServer({"say": 1}, capacity=2), (1, 10, 5.0), (1, 20, 1.0), (1, 30, 6.0))
        assert server.times(1).tolist() == [20, 30]

    def test_several_of_a_video_in_one_batch(self):
        together = MessageServer({"say": 1}, capacity=3)
        video, time = numbers(1, 2, 1, 1, 1), numbers(5, 5, 6, 7, 5)
        say = torch.arange(5.0)[:, None]
        together.send(video, time, say=say)
        one_by_one = sent(
            MessageServer({"say": 1}, capacity=3), *zip(video.tolist(), time.tolist(), say[:, 0].tolist(), strict=True)
        )
        assert together.times(1).tolist() == one_by_one.times(1).tolist() == [6, 7, 5]
        for side in ("past", "future", "all"):
            assert heard(together, 1, 6, side) == heard(one_by_one, 1, 6, side)

    def test_the_video_that_was_silent_longest_makes_room(self):
        server = sent(MessageServer({"say": 1}, videos=2), (1, 1, 1.0), (2, 1, 1.0), (1, 2, 1.0), (3, 1, 1.0))
        assert len(server) == 2
        assert heard(server, 2, 5, "all") == 0
        assert heard(server, 1, 5, "all") > 0
        assert server.times(3).tolist() == [1]

    def test_ten_thousand_videos_stay_bounded(self):
        server = MessageServer({"say": 8}, capacity=4, videos=10_000)
        for start in range(0, 12_000, 500):
            video = torch.arange(start, start + 500)
            server.send(video, video, say=torch.zeros(500, 8))
        assert len(server) == 10_000
        assert server.bytes <= 10_240 * 4 * (8 * 4 + 16)

    def test_a_batch_of_more_videos_than_fit(self):
        with pytest.raises(ZooError, match="does not fit"):
            MessageServer({"say": 1}, videos=1).send(numbers(1, 2), numbers(1, 1), say=torch.zeros(2, 1))

    def test_nobody_asks(self):
        """Before the first message and behind it."""
        server, nobody = MessageServer({"say": 2}), torch.empty(0, dtype=torch.int64)
        for _ in range(2):
            assert server.receive(nobody, nobody).gather("say", "all").shape == (0, 2)
            server.send(numbers(1), numbers(1), say=torch.ones(1, 2))

    def test_mail_for_a_model_of_another_precision(self):
        server = MessageServer({"say": 1})
        assert server.receive(numbers(1), numbers(1)).to(torch.float64).gather("say", "past").dtype == torch.float64
        mail = sent(server, (1, 1, 1.0)).receive(numbers(1), numbers(9)).to(torch.float64)
        assert mail.gather("say", "past").dtype == mail.kernel.dtype == torch.float64
        assert mail.count("past").tolist() == [1]

    def test_what_is_kept_has_no_graph(self):
        server = MessageServer({"say": 1})
        server.send(numbers(1), numbers(1), say=torch.ones(1, 1, requires_grad=True))
        assert not server.receive(numbers(1), numbers(1)).gather("say", "all").requires_grad


class TestResuming:
    def test_it_goes_on_as_if_nothing_had_happened(self):
        def server() -> MessageServer:
            return MessageServer({"say": 1}, capacity=2, videos=2)

        first = sent(server(), (1, 1, 1.0), (2, 1, 2.0), (1, 2, 3.0))
        second = server()
        second.load_state_dict(first.state_dict())
        for one in (first, second):
            sent(one, (3, 1, 4.0), (1, 3, 5.0))
        assert second.times(1).tolist() == first.times(1).tolist() == [2, 3]
        assert heard(second, 2, 1, "all") == 0
        assert heard(second, 1, 9, "past") == heard(first, 1, 9, "past")

    def test_with_other_options(self):
        with pytest.raises(ZooError, match="not this model's"):
            MessageServer({"say": 2}).load_state_dict(sent(MessageServer({"say": 1}), (1, 1, 1.0)).state_dict())

    def test_messages_of_another_kind(self):
        with pytest.raises(ZooError, match="was sent"):
            MessageServer({"say": 1}).send(numbers(1), numbers(1), shout=torch.zeros(1, 1))

    @pytest.mark.parametrize(
        "options", [{"capacity": 0}, {"decay": 0.0}, {"decay": 1.5}, {"sigma": 0.0}, {"videos": 0}]
    )
    def test_senseless_options(self, options):
        with pytest.raises(ZooError, match="needs capacity"):
            MessageServer({"say": 1}, **options)
