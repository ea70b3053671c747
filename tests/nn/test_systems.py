"""What transformer_lstm, lstm_attention and interest_dynamics claim of themselves, each against a slower way to say the same."""
from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from pydantic import ValidationError
from test_zoo import batch, events, network

from recs.nn.due import Due, newest_meetings
from recs.nn.events import NUMBERS, Scaled, user_numbers
from recs.nn.losses import catalogue_bce, catalogue_squares
from recs.nn.next_item import EVENTS
from recs.nn.reader import Reader
from recs.nn.recurrent import MovingCell, over_history
from recs.nn.space import DistanceCurve, Regions, kilometres
from recs.nn.staged import write_staged
from recs.nn.thresholds import fitted
from recs.nn.time import DAY

HOUR = 3_600_000_000


# ---- losses ------------------------------------------------------------------------------------------------------------------------

def pairs() -> tuple[torch.Tensor, ...]:
    torch.manual_seed(0)
    states, table = torch.randn(7, 4, requires_grad=True), torch.randn(9, 4, requires_grad=True)
    return states, table, torch.tensor([0, 0, 3, 6, 6, 6]), torch.tensor([1, 5, 2, 8, 0, 3])


def test_catalogue_bce_is_torchs_over_all_items():
    states, table, row, target = pairs()
    y = torch.zeros(7, 9)
    y[row, target] = 1
    plain = F.binary_cross_entropy_with_logits(states @ table.T, y, reduction="none").sum(1).mean()
    wanted = torch.autograd.grad(2 * plain, (states, table))
    for rows_at_once in (256, 2):
        loss = catalogue_bce(states, table, row, target, rows_at_once)
        assert loss.item() == pytest.approx(plain.item(), rel=1e-5)
        for a, b in zip(torch.autograd.grad(2 * loss, (states, table)), wanted, strict=True):
            torch.testing.assert_close(a, b)
    twice = catalogue_bce(states, table, torch.cat([row, row]), torch.cat([target, target]))
    assert twice.item() == pytest.approx(plain.item(), rel=1e-5)


def test_catalogue_squares_is_the_weighted_sum_over_all_items():
    states, table, row, target = pairs()
    y = torch.zeros(7, 9)
    y[row, target] = 1
    weight = torch.where(y > 0, 1.0, 0.1)
    plain = (weight * (y - states @ table.T).square()).sum() / len(row)
    loss = catalogue_squares(states, table, row, target, 0.1)
    assert loss.item() == pytest.approx(plain.item(), rel=1e-5)
    for a, b in zip(torch.autograd.grad(loss, (states, table)), torch.autograd.grad(plain, (states, table)), strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("loss", ["softmax", "sampled", "gbce", "bce", "squares"])
def test_positions_are_trained_on_the_events_ahead(loss: str):
    b = batch()
    one, three = (network("sasrec", loss=loss, ahead=n) for n in (1, 3))
    cells, items = three._pairs(b, 16)
    follow = b["follow"].bool()
    wanted = set()
    for r in range(6):
        wanted |= {(r * 16 + 15, int(i)) for i in b["target"][r] if i > 0}
        for p in range(16):
            wanted |= {(r * 16 + p, int(b["h_item"][r, p + n])) for n in (1, 2, 3) if p + n < 16 and follow[r, p]}
    assert set(zip(cells.tolist(), items.tolist(), strict=True)) == wanted
    assert torch.isfinite(three.loss(b)) and three.loss(b) != one.loss(b)


# ---- recurrent parts -----------------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("kind", ["rnn", "gru", "lstm"])
def test_a_moving_cell_moves_by_a_and_then_by_b_as_by_both(kind: str):
    torch.manual_seed(1)
    cell = MovingCell(8, kind).double()
    cell.start()
    m = cell.event(cell.empty(3, torch.zeros(3, 8).double()), cell.of_input(torch.randn(3, 8).double()))
    a, b = torch.tensor([HOUR, DAY, 0]), torch.tensor([3 * DAY, 5, 40 * DAY])
    torch.testing.assert_close(cell.state(cell.at(cell.at(m, a), b)), cell.state(cell.at(m, a + b)))
    assert not torch.allclose(cell.state(cell.at(m, a + DAY)), cell.state(m))
    rest = cell.state(cell.at(m, torch.tensor([9999 * DAY] * 3)))
    torch.testing.assert_close(rest, cell.state(m | {"now": m["rest"]}))


def test_paces_start_between_an_hour_and_three_months():
    cell = MovingCell(16, "rnn")
    cell.start()
    half_lives = math.log(2) / F.softplus(cell.of_input.bias[-16:].detach())
    assert half_lives[0] == pytest.approx(1 / 24, rel=1e-3) and half_lives[-1] == pytest.approx(90, rel=1e-3)


def test_reading_in_chunks_gives_the_same_states_and_keeps_no_gradient_of_earlier_ones():
    torch.manual_seed(2)
    lstm, x = torch.nn.LSTM(4, 4, batch_first=True), torch.randn(2, 12, 4, requires_grad=True)
    h_item = torch.ones(2, 12, dtype=torch.int32)
    h_item[1, :5] = 0
    whole, chunked = over_history(lstm, x, h_item), over_history(lstm, x, h_item, chunk=4)
    torch.testing.assert_close(whole, chunked)
    torch.testing.assert_close(whole[1, 5:], lstm(x[1:, 5:])[0][0])      # the network starts at the first event
    assert torch.autograd.grad(whole[0, -1].sum(), x, retain_graph=True)[0][0, 0].abs().sum() > 0
    assert torch.autograd.grad(chunked[0, -1].sum(), x)[0][0, :8].abs().sum() == 0


# ---- lstm_attention ----------------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("reader", ["rnn", "lstm", "gru", "convolution"])
@pytest.mark.parametrize("attention", ["dot", "additive", "heads"])
def test_attention_is_a_share_of_the_real_events_and_the_past(reader: str, attention: str):
    net, b = network("lstm_attention", reader=reader, attention=attention), batch()
    share, real = net.attention(events(b)), b["h_item"] > 0
    torch.testing.assert_close(share.sum(1), torch.ones(6))
    assert (share[~real] == 0).all() and (share[real] > 0).all()
    other = {n: v.clone() for n, v in events(b).items()}
    other["h_item"][:, -1] = 1 + other["h_item"][:, -1] % 200
    earlier = real[:, :-1]
    torch.testing.assert_close(net.encode(other)[:, :-1][earlier], net.encode(events(b))[:, :-1][earlier])


@pytest.mark.parametrize("attention", ["dot", "additive", "heads"])
def test_a_window_of_attention_is_the_newest_events_only(attention: str):
    b = events(batch())
    wide, near = (network("lstm_attention", attention=attention, window=w) for w in (64, 4))
    assert (near.attention(b)[:, :-4] == 0).all() and (wide.attention(b)[:, :-4] > 0).any()
    whole = network("lstm_attention", attention=attention, window=16)
    torch.testing.assert_close(whole.encode(b), wide.encode(b))


def test_a_history_of_thousands_of_events_is_read_in_bounded_memory():
    """What attention would hold of 4,096 x 4,096 pairs is 268 MB for four heads; by windows it is 128 x 255 at a time."""
    net = network("lstm_attention", length=4_096, attention="heads")
    n, held = 4_096, []
    torch.manual_seed(0)
    ts = torch.arange(n).unsqueeze(0) * HOUR
    b = {"h_item": torch.randint(1, 200, (1, n)), "h_type": torch.ones(1, n, dtype=torch.uint8), "h_ts": ts,
         "h_dwell": torch.zeros(1, n), "ask_us": ts + HOUR}
    share = net._share
    net._share = lambda *a: held.append(share(*a)) or held[-1]
    with torch.no_grad():
        assert torch.isfinite(net.encode(b)).all()
    assert max(s.numel() for s in held) <= 4 * 128 * 255


def test_regression_learns_by_squares_and_says_so():
    assert network("lstm_attention", head="regression").config.loss == "squares"
    assert network("lstm_attention").config.loss == "auto"


# ---- transformer_lstm --------------------------------------------------------------------------------------------------------------

def test_user_numbers_are_those_of_a_loop_over_the_past():
    b = events(batch())
    found, r = user_numbers(b), int((b["h_item"] > 0).sum(1).argmax())
    start = int((b["h_item"][r] == 0).sum())
    ts, dwell = b["h_ts"][r, start:].tolist(), b["h_dwell"][r, start:].tolist()
    for i in (0, 3, len(ts) - 1):
        row = dict(zip(NUMBERS, found[r, start + i].tolist(), strict=True))
        log_gaps = [math.log1p((y - x) / 1e6) / math.log1p(10 * 365.25 * 86_400) for x, y in zip(ts[:i], ts[1 : i + 1], strict=True)]
        mean = sum(log_gaps) / max(len(log_gaps), 1)
        angles = [2 * math.pi * (t % DAY) / DAY for t in ts[: i + 1]]
        c, s = (sum(f(x) for x in angles) / (i + 1) for f in (math.cos, math.sin))
        assert row["events"] == pytest.approx(math.log(i + 2), rel=1e-5)
        assert row["dwell"] == pytest.approx(math.log1p(sum(dwell[: i + 1])), rel=1e-4)
        assert row["gap_mean"] == pytest.approx(mean, abs=1e-5)
        assert row["gap_spread"] == pytest.approx(math.sqrt(sum((g - mean) ** 2 for g in log_gaps) / max(len(log_gaps), 1)), abs=1e-3)
        assert (row["day_cos"], row["day_sin"]) == (pytest.approx(c, abs=1e-5), pytest.approx(s, abs=1e-5))
        assert row["day_strength"] == pytest.approx(math.hypot(c, s), abs=1e-5)


def test_the_scaler_is_fitted_on_training_and_travels_with_the_weights():
    net, b = network("transformer_lstm"), batch(200)
    net.prepare(b)
    numbers = user_numbers(events(b))[b["h_item"] > 0]
    torch.testing.assert_close(net.scaled.mean, numbers.mean(0))
    scaled = net.scaled(numbers)
    torch.testing.assert_close(scaled.mean(0), torch.zeros(len(NUMBERS)), atol=0.1, rtol=0)      # a few are cut off at 8 spreads
    fresh = network("transformer_lstm")
    assert not torch.equal(fresh.score(batch()), net.score(batch()))
    fresh.load_state_dict(net.state_dict())
    torch.testing.assert_close(fresh.score(batch()), net.score(batch()))
    constant = Scaled(1)
    constant.fit(torch.full((5, 1), 3.0))
    assert constant(torch.tensor([[3.0], [9.0]])).tolist() == [[0.0], [0.0]]


def test_the_threshold_is_the_best_of_a_loop(tmp_path: Path):
    net = network("transformer_lstm")
    columns = {n: v.numpy() for n, v in batch(40).items()}
    columns["target"], columns["n_truth"] = np.array([[1, 2]] * 40, np.int32), np.full(40, 3, np.int32)      # one has no number
    found = fitted(net, Reader(write_staged(tmp_path / "v", columns), 16, shuffle=False, even=False, kind="arrow"))
    p = torch.sigmoid(net.score(batch(40))).detach().numpy()
    counts = [((p[:, :2] >= t).sum(), (p >= t).sum()) for t in np.logspace(-5, 0, 101).astype(np.float32)]
    best = max((2 * true / (said + 120), true, said) for true, said in counts)
    assert found.f1 == pytest.approx(best[0], abs=1e-5)
    assert found.recall == pytest.approx(best[1] / 120, abs=1e-5) and found.precision == pytest.approx(best[1] / best[2], abs=1e-5)


def test_half_lives_are_learned():
    net, b = network("transformer_lstm"), batch()
    net.loss(b).backward()
    assert (net.half_life.grad.abs() > 0).all()


def test_what_is_due_is_the_sum_of_a_loop_over_the_items_met():
    torch.manual_seed(2)
    due, b = Due(4, knots=8), events(batch())
    for values in due.parameters():
        torch.nn.init.normal_(values)
    item, ts, asked = b["h_item"].long(), b["h_ts"], b["ask_us"]
    x = torch.randn(int(item.max()) + 1, 4)[item]
    found = due(x, item, ts, asked)
    for r in range(len(item)):
        for t in range(item.shape[1]):
            newest = {int(item[r, i]): i for i in range(t + 1) if item[r, i] > 0}
            logits, values = [due.none.item()], [torch.zeros(4)]
            for j, i in newest.items():
                place = 7 * min(math.log1p(float(asked[r, t] - ts[r, i]) / 1e6) / math.log1p(10 * 365.25 * 86_400), 1)
                curve = np.interp(place, np.arange(8), due.at_knots(x[r, i]).detach().numpy())
                logits.append(curve + due.often.item() * math.log((item[r, : t + 1] == j).sum()))
                values.append(due.value(x[r, i]))
            wanted = torch.tensor(logits, dtype=torch.float32).softmax(0) @ torch.stack(values)
            torch.testing.assert_close(found[r, t], wanted, atol=1e-4, rtol=1e-3)


def test_of_an_items_meetings_the_newest_counts():
    here, often = newest_meetings(torch.tensor([[0, 5, 3, 5]]))
    assert here[0].int().tolist() == [[0, 0, 0, 0], [0, 1, 0, 0], [0, 1, 1, 0], [0, 0, 1, 1]]
    assert often[0, 3].tolist() == [1, 2, 1, 2]


def test_nothing_is_due_where_lists_do_not_repeat():
    assert "due.none" in network("transformer_lstm").state_dict()
    assert not any(name.startswith("due.") for name in network("transformer_lstm", repeats=False).state_dict())


def test_without_time_or_numbers_it_does_not_read_them():
    b = batch()
    moved = b | {"h_ts": b["h_ts"] // 3, "request_us": b["request_us"] * 2}
    plain = network("transformer_lstm", time=False)
    assert torch.equal(plain.score(b), plain.score(moved))
    assert "scaled.mean" not in network("transformer_lstm", numbers=False).state_dict()


# ---- interest_dynamics ---------------------------------------------------------------------------------------------------------------

PARTS = [
    (encoder, dynamics, recommender)
    for encoder in ("rnn", "lstm", "gru", "transformer") for dynamics in ("rnn", "lstm", "gru", "transformer", "none")
    for recommender in ("mlp", "attention")
]


@pytest.mark.parametrize(("encoder", "dynamics", "recommender"), PARTS)
def test_every_combination_of_parts_scores_learns_and_sees_the_past_only(encoder: str, dynamics: str, recommender: str):
    net, b = network("interest_dynamics", encoder=encoder, dynamics=dynamics, recommender=recommender, attended=4), batch()
    scores = net.score(b)
    assert scores.shape == (6, 200) and torch.isfinite(scores).all()
    net.train().loss(b).backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for n, p in net.named_parameters() if not n.startswith("event.gap.mix"))
    net.eval()
    pair = net.pair_logits(net.state(b), net.vectors(torch.arange(1, 7)))
    torch.testing.assert_close(pair, scores.gather(1, torch.arange(6).unsqueeze(1)).squeeze(1))
    later = b | {"request_us": b["request_us"] + 20 * DAY}
    assert torch.equal(net.state(b)[:, :16], net.state(later)[:, :16])       # u_E stays
    assert not torch.equal(net.state(b)[:, 16:32], net.state(later)[:, 16:32])      # u_D has moved


def test_presets_are_the_texts_pairings_and_give_way_to_what_is_said():
    of = lambda **given: network("interest_dynamics", **given).config      # noqa: E731
    parts = lambda c: (c.encoder, c.dynamics, c.recommender)                # noqa: E731
    assert parts(of()) == parts(of(preset="shop")) == ("lstm", "rnn", "mlp")
    assert parts(of(preset="news")) == ("transformer", "transformer", "attention")
    assert parts(of(preset="news", encoder="gru")) == ("gru", "transformer", "attention")
    with pytest.raises(ValidationError):
        of(preset="cinema")


@pytest.mark.parametrize("encoder", ["rnn", "lstm", "gru"])
@pytest.mark.parametrize("dynamics", ["rnn", "lstm", "gru"])
def test_a_memory_that_is_carried_forward_is_the_history_read_again(encoder: str, dynamics: str):
    net, b = network("interest_dynamics", encoder=encoder, dynamics=dynamics), batch()
    history = {n: b[n] for n in EVENTS if n in b}
    old = {n: v[:, :-2] for n, v in history.items()}
    kept = net.memory(old)
    for i in (-2, -1):      # two new events
        kept = net.after(kept, {n: v[:, i] for n, v in history.items()})
    for nights in (0, 1, 30):
        then = b["request_us"] + nights * DAY
        torch.testing.assert_close(net.moved(kept, then), net.state(history | {"request_us": then}), rtol=1e-4, atol=1e-5)
    stay = net.after(kept, {n: torch.zeros_like(v[:, -1]) for n, v in history.items()})
    assert all(torch.equal(stay[n], kept[n]) for n in kept)


def test_what_cannot_be_carried_says_why():
    b = batch()
    with pytest.raises(ValueError, match="recurrent encoder and recurrent dynamics carry"):
        network("interest_dynamics", preset="news").memory(b)
    with pytest.raises(ValueError, match="recommender: mlp"):
        network("interest_dynamics", recommender="attention").memory(b)


# ---- places ----------------------------------------------------------------------------------------------------------------------------

def test_kilometres():
    berlin, munich = torch.tensor([52.52, 13.405], dtype=torch.float64), torch.tensor([48.137, 11.575], dtype=torch.float64)
    assert kilometres(berlin, munich).item() == pytest.approx(504, abs=2)
    assert kilometres(berlin, berlin).item() == 0
    assert kilometres(berlin, torch.tensor([math.nan, 0.0])).isnan()


def test_near_and_far_and_nowhere():
    curve = DistanceCurve()
    torch.nn.init.normal_(curve.curve.table.weight)
    said = curve(torch.tensor([0.1, 5.0, 5000.0, math.nan]))
    assert len(set(said[:3].flatten().tolist())) == 3 and said[3].item() == 0
    regions = Regions(4)
    a, near, far, nowhere = regions(torch.tensor([[40.715, -74.005], [40.7151, -74.0051], [48.1, 11.6], [math.nan, math.nan]]))
    assert torch.equal(a, near) and not torch.equal(a, far) and torch.equal(nowhere, regions.nowhere)


def test_where_a_user_is_says_how_far_items_are():
    net, b = network("interest_dynamics", places=True), batch()
    place = torch.rand(6, 16, 2) * 0.2 + torch.tensor([40.6, -74.1])
    net.item_place[1:] = torch.rand(200, 2) * 0.2 + torch.tensor([40.6, -74.1])
    without = net.score(b | {"h_place": place})
    with torch.no_grad():
        net.far.curve.table.weight.sub_(torch.linspace(0, 400, 24).unsqueeze(1))
    here = net.score(b | {"h_place": place}) - without
    km = kilometres(place[:, -1:].expand(-1, 200, -1), net.item_place[1:].expand(6, -1, -1))
    assert (here.argmax(1) == km.argmin(1)).all()
    unknown = b | {"h_place": torch.full((6, 16, 2), math.nan)}
    assert torch.isfinite(net.score(unknown)).all() and torch.isfinite(net.train().loss(unknown))
