//! A recording of three layers and six experts by hand, and laws over random ones.

use proptest::prelude::*;

use super::seen::{Seen, decayed};
use super::*;

/// What is to come, `[M]` experts and tokens of this pass and of the next.
#[derive(Clone, Debug, Default)]
struct Tape {
    now: Vec<Vec<(u16, u32)>>,
    next: Vec<Vec<(u16, u32)>>,
}

impl Ahead for Tape {
    fn rest_of_pass(&self, layer: usize, into: &mut Vec<Demand>) {
        into.extend(self.now.get(layer).into_iter().flatten().copied().map(demand));
    }

    fn next_pass(&self, layer: usize, into: &mut Vec<Demand>) {
        into.extend(self.next.get(layer).into_iter().flatten().copied().map(demand));
    }
}

/// Expert `e` comes after `e` sixteenths of its token's gate weight.
fn demand((expert, tokens): (u16, u32)) -> Demand {
    Demand { expert, tokens, before: f64::from(expert) / 16.0 }
}

fn setting(layers: usize, experts: usize, depth: usize) -> Setting {
    let trained = Arc::new(Trained::default());
    Setting { layers, experts, top_k: 2, depth, accuracy: None, seed: Seed(3), trained }
}

fn view<'a>(layer: Option<usize>, pass: u64, ahead: &'a Tape) -> View<'a> {
    let gain = &|_: usize, demand: &[Demand], expert: u16| {
        demand.iter().find(|own| own.expert == expert).map_or(0.0, |own| f64::from(own.tokens))
    };
    View { layer, pass, requests: &[7], resident: &|_, expert| expert == 0, gain, ahead }
}

/// Lets the router of `layer` speak as the tape says.
fn speak(prefetcher: &mut dyn Prefetcher, layer: usize, tape: &Tape) {
    let (experts, counts): (Vec<u16>, Vec<u32>) = tape.now[layer].iter().copied().unzip();
    let tokens = counts.iter().sum::<u32>().div_ceil(2);
    let weights: Vec<f32> = counts.iter().map(|&count| count as f32 / 2.0).collect();
    let layer = u16::try_from(layer).unwrap();
    prefetcher.routed(&Routed {
        layer,
        tokens,
        experts: &experts,
        counts: &counts,
        weights: &weights,
    });
}

/// Wishes of a fresh prefetcher in a pass, after `None` and after each layer in turn.
fn wishes(name: &str, setting: &Setting, tape: &Tape) -> Vec<Vec<Wish>> {
    let mut prefetcher = (find(name).unwrap().build)(setting);
    pass(prefetcher.as_mut(), 0, setting.layers, tape)
}

fn pass(
    prefetcher: &mut dyn Prefetcher,
    number: u64,
    layers: usize,
    tape: &Tape,
) -> Vec<Vec<Wish>> {
    let moments = std::iter::once(None).chain((0..layers).map(Some));
    let wishes = moments.map(|layer| {
        if let Some(layer) = layer {
            speak(prefetcher, layer, tape);
        }
        let mut wishes = Vec::new();
        prefetcher.wish(&view(layer, number, tape), &mut wishes);
        wishes
    });
    wishes.collect()
}

/// Layer and expert of wishes, the first to be copied first.
fn ranked(wishes: &[Wish]) -> Vec<(u16, u16)> {
    let mut wishes = wishes.to_vec();
    wishes.sort_by(|a, b| b.priority.total_cmp(&a.priority).then(a.layer.cmp(&b.layer)));
    wishes.iter().map(|wish| (wish.layer, wish.expert)).collect()
}

fn tape() -> Tape {
    Tape {
        now: vec![vec![(1, 2), (2, 2)], vec![(3, 1), (4, 3)], vec![(5, 4)]],
        next: vec![vec![(2, 1), (4, 1)], vec![(3, 2)], vec![(0, 2)]],
    }
}

#[test]
fn the_oracle_goes_on_into_the_next_pass() {
    let wishes = wishes("oracle", &setting(3, 6, 2), &tape());
    assert_eq!(ranked(&wishes[0]), [(0, 1), (0, 2), (1, 4), (1, 3)]);
    assert_eq!(ranked(&wishes[1]), [(1, 4), (1, 3), (2, 5)]);
    assert_eq!(ranked(&wishes[2]), [(2, 5), (0, 2), (0, 4)]);
    assert_eq!(ranked(&wishes[3]), [(0, 2), (0, 4), (1, 3)]);
}

#[test]
fn the_queue_orders_by_all_tokens_that_wait() {
    // Layer 1: expert 3 has 1 token now and 2 in the next pass, expert 4 has 3 and none: equal, so
    // that the order of the tape stays.
    let wishes = wishes("queue", &setting(3, 6, 1), &tape());
    assert_eq!(ranked(&wishes[0]), [(0, 2), (0, 1)]);
    assert_eq!(ranked(&wishes[1]), [(1, 3), (1, 4)]);
    assert_eq!(ranked(&wishes[3]), [(0, 2), (0, 4)]);
}

#[test]
fn pre_gates_are_exact_and_see_one_layer() {
    let wishes = wishes("pre-gated", &setting(3, 6, 3), &tape());
    assert_eq!(wishes[0], []);
    assert_eq!(ranked(&wishes[1]), [(1, 4), (1, 3)]);
    assert_eq!(ranked(&wishes[2]), [(2, 5)]);
    assert_eq!(wishes[3], []);
}

#[test]
fn gates_ahead_are_exact_when_they_are_said_to_be() {
    let setting = Setting { accuracy: Some(1.0), ..setting(3, 6, 2) };
    let wishes = wishes("gate-ahead", &setting, &tape());
    assert_eq!(wishes[0], []);
    assert_eq!(ranked(&wishes[1]), [(1, 4), (1, 3), (2, 5)]);
    assert_eq!(ranked(&wishes[2]), [(2, 5)]);
}

#[test]
fn a_whole_path_is_there_before_the_first_layer_and_does_not_change() {
    let setting = Setting { accuracy: Some(0.5), ..setting(3, 6, 3) };
    let wishes = wishes("whole-path", &setting, &tape());
    assert_eq!(wishes[0].len(), 5);
    let of_layer = |wishes: &[Wish], layer| {
        let wishes = wishes.iter().filter(|wish| wish.layer == layer);
        wishes.map(|wish| wish.expert).collect::<Vec<_>>()
    };
    assert_eq!(of_layer(&wishes[0], 2), of_layer(&wishes[2], 2));
    assert!(of_layer(&wishes[2], 1).is_empty());
}

#[test]
fn affinity_follows_the_counts_and_chains_layers() {
    // From 1 two of three go to 4 and one to 3; from 2 all go to 4. Of 4 tokens' choices, 4 gets
    // 2 * 2/3 + 2 and 3 the rest. From 4 all go to 5, from 3 to 0.
    let mut first = vec![vec![0; 6]; 6];
    (first[1][4], first[1][3], first[2][4]) = (2, 1, 5);
    let mut second = vec![vec![0; 6]; 6];
    (second[4][5], second[3][0]) = (9, 1);
    let trained = Trained { transitions: vec![first, second], ..Trained::default() };
    let setting = Setting { trained: Arc::new(trained), ..setting(3, 6, 2) };
    let wishes = wishes("affinity", &setting, &tape());
    assert_eq!(ranked(&wishes[1]), [(1, 4), (1, 3), (2, 5), (2, 0)]);
    // The true choice of layer 1 was 3 (1 token) and 4 (3 tokens).
    assert_eq!(ranked(&wishes[2]), [(2, 5), (2, 0)]);
}

#[test]
fn the_nearest_stored_request_is_followed() {
    // The first stored request is unlike the tape in layer 0, the second like it.
    let mut stored = vec![vec![0; 18]; 2];
    (stored[0][5], stored[0][6], stored[0][12]) = (3, 3, 3);
    (stored[1][1], stored[1][2]) = (1, 1);
    (stored[1][6 + 4], stored[1][12 + 5]) = (2, 2);
    let trained = Trained { requests: stored, ..Trained::default() };
    let setting = Setting { trained: Arc::new(trained), ..setting(3, 6, 2) };
    let wishes = wishes("activation-matrix", &setting, &tape());
    assert_eq!(ranked(&wishes[1]), [(1, 4), (2, 5)]);
    let priorities: Vec<f32> = wishes[1].iter().map(|wish| wish.priority).collect();
    assert_eq!(priorities, [(1.0 + 1e-8) * 0.75, (1.0 + 1e-8) * 0.5]);
}

#[test]
fn a_request_that_ends_takes_its_activations_along() {
    let mut stored = vec![vec![0; 18]; 2];
    (stored[0][1], stored[0][6]) = (1, 1);
    (stored[1][2], stored[1][7]) = (1, 1);
    let trained = Trained { requests: stored, ..Trained::default() };
    let setting = Setting { trained: Arc::new(trained), ..setting(3, 6, 1) };
    let mut prefetcher = (find("activation-matrix").unwrap().build)(&setting);
    let mut run = |request: u32, expert: u16| {
        let tape = Tape { now: vec![vec![(expert, 1)]; 3], ..Tape::default() };
        let mut wishes = Vec::new();
        prefetcher.wish(&View { requests: &[request], ..view(None, 0, &tape) }, &mut wishes);
        speak(prefetcher.as_mut(), 0, &tape);
        prefetcher.wish(&View { requests: &[request], ..view(Some(0), 0, &tape) }, &mut wishes);
        ranked(&wishes)
    };
    assert_eq!(run(1, 1), [(1, 0)]);
    assert_eq!(run(1, 1), [(1, 0)]);
    // One token of expert 2 does not outweigh the request's two of expert 1, but a new request's
    // own does.
    assert_eq!(run(1, 2), [(1, 0)]);
    assert_eq!(run(2, 2), [(1, 1)]);
}

/// What a gate predicts, it predicts with its weights, right or wrong; who predicts no weights
/// wishes for the highest precision.
#[test]
fn wishes_carry_the_weight_that_goes_before_them() {
    let befores = |name: &str, accuracy| {
        let setting = Setting { accuracy: Some(accuracy), ..setting(3, 6, 1) };
        let wishes = wishes(name, &setting, &tape());
        wishes[1].iter().map(|wish| wish.before * 16.0).collect::<Vec<_>>()
    };
    for name in ["gate-ahead", "oracle", "queue", "pre-gated", "impact"] {
        assert_eq!(befores(name, 1.0), [3.0, 4.0], "{name}");
    }
    assert_eq!(befores("gate-ahead", 0.0), [3.0, 4.0]);
    assert_eq!(befores("next-layer", 1.0), [0.0; 6]);
}

#[test]
fn impact_takes_the_largest_gain_from_whatever_layer() {
    let setting = Setting { accuracy: Some(1.0), ..setting(3, 6, 2) };
    let mut tape = tape();
    tape.now[2].push((0, 9));
    // Gains are tokens here; expert 0 is there already.
    let wishes = wishes("impact", &setting, &tape);
    assert_eq!(ranked(&wishes[1]), [(2, 5), (1, 4), (1, 3)]);
}

#[test]
fn scores_of_the_next_layer_decide_for_mrs() {
    let setting = setting(3, 6, 3);
    let mut prefetcher = (find("mrs").unwrap().build)(&setting);
    let first = pass(prefetcher.as_mut(), 0, 3, &tape());
    assert_eq!(first, vec![Vec::new(); 4], "nothing was scored before");
    let second = pass(prefetcher.as_mut(), 1, 3, &tape());
    assert_eq!(ranked(&second[1]), [(1, 4), (1, 3)]);
    assert_eq!(ranked(&second[2]), [(2, 5)]);
}

#[test]
fn errors_grow_with_distance_as_measured() {
    for (distance, share) in [(1, 0.96), (2, 0.90), (3, 0.90), (4, 0.86)] {
        assert!((decayed(None, distance) - share).abs() < 1e-12, "{distance}");
    }
    for distance in 1..100 {
        assert_eq!(decayed(Some(1.0), distance), 1.0);
        assert!(decayed(Some(0.3), distance + 1) <= decayed(Some(0.3), distance));
        assert!((0.0..=1.0).contains(&decayed(Some(0.3), distance)));
    }
}

/// Looks at 8 of 64 experts in each of 4000 passes.
fn looks(accuracy: f64, setting: &Setting) -> Vec<Vec<u16>> {
    let mut seen = Seen::new(setting, "test");
    let now = vec![(0..8).map(|expert| (expert * 7, 1)).collect()];
    let tape = Tape { now, ..Tape::default() };
    let look = |pass| {
        let mut experts = Vec::new();
        seen.look(&view(None, pass, &tape), 0, accuracy, &mut experts);
        experts.iter().map(|own| own.expert).collect()
    };
    (0..4000).map(look).collect()
}

fn right(expert: u16) -> bool {
    expert.is_multiple_of(7) && expert < 56
}

#[test]
fn the_share_of_right_predictions_is_the_accuracy() {
    for accuracy in [0.0, 0.3, 0.85, 0.96, 1.0] {
        let looks = looks(accuracy, &setting(1, 64, 1));
        let hits = looks.iter().flatten().filter(|&&expert| right(expert)).count();
        let share = hits as f64 / 32_000.0;
        let error = (accuracy * (1.0 - accuracy) / 32_000.0).sqrt();
        assert!((share - accuracy).abs() <= 4.0 * error, "{share} for {accuracy}");
    }
}

#[test]
fn a_better_predictor_is_right_wherever_a_worse_one_is() {
    let (worse, better) = (looks(0.6, &setting(1, 64, 1)), looks(0.9, &setting(1, 64, 1)));
    for (worse, better) in worse.iter().zip(&better) {
        let of = |experts: &[u16], is_right| {
            let found = experts.iter().copied();
            found.filter(|&expert| right(expert) == is_right).collect::<Vec<_>>()
        };
        assert!(of(worse, true).iter().all(|expert| of(better, true).contains(expert)));
        assert!(of(better, false).iter().all(|expert| of(worse, false).contains(expert)));
    }
}

#[test]
fn wrong_predictions_are_drawn_by_training_load() {
    let mut loads = vec![0; 64];
    loads[1] = 1_000_000;
    let trained = Arc::new(Trained { loads: vec![loads], ..Trained::default() });
    let looks = looks(0.0, &Setting { trained, ..setting(1, 64, 1) });
    assert!(looks.iter().filter(|experts| experts[0] == 1).count() > 3990);
}

/// Distinct experts and their tokens, for each of `layers`.
fn routing(layers: usize, experts: u16) -> impl Strategy<Value = Vec<Vec<(u16, u32)>>> {
    let chosen = prop::collection::btree_map(0..experts, 1..9_u32, 0..=usize::from(experts));
    let layer = chosen.prop_map(|chosen| chosen.into_iter().collect());
    prop::collection::vec(layer, layers)
}

fn trained(layers: usize, experts: usize) -> impl Strategy<Value = Trained> {
    let row = prop::collection::vec(0..9_u32, experts);
    let counts = prop::collection::vec(row, experts);
    let loads = prop::collection::vec(prop::collection::vec(0..9_u64, experts), layers);
    let transitions = prop::collection::vec(counts, layers - 1);
    // Lengths that do not fit are what a bad file would give.
    let request = prop::collection::vec(0..9_u32, layers * experts..=layers * experts + 1);
    let whole = (loads, transitions, prop::collection::vec(request, 0..4));
    let whole =
        whole.prop_map(|(loads, transitions, requests)| Trained { loads, transitions, requests });
    prop_oneof![Just(Trained::default()), whole]
}

proptest! {
    /// Every entry, also ones to come: wishes are for layers in reach (the next pass's only where
    /// the entry looks ahead), for experts that there are, once, with an order; the same recording
    /// gives the same wishes; and nobody sees ahead who does not say so.
    #[test]
    fn wishes_are_in_reach_and_the_same_every_time(
        (now, next, after) in (routing(4, 5), routing(4, 5), routing(4, 5)),
        trained in trained(4, 5),
        depth in 1..6_usize,
        accuracy in prop::option::of(0.0..=1.0),
    ) {
        let trained = Arc::new(trained);
        let setting = Setting { accuracy, trained, ..setting(4, 5, depth) };
        let first = Tape { now, next: next.clone() };
        let second = Tape { now: next, next: after };
        for entry in ALL {
            let passes = || {
                let mut prefetcher = (entry.build)(&setting);
                let mut wishes = pass(prefetcher.as_mut(), 0, 4, &first);
                prefetcher.finished(7);
                wishes.extend(pass(prefetcher.as_mut(), 1, 4, &second));
                wishes
            };
            let wishes = passes();
            prop_assert_eq!(&wishes, &passes(), "{} differs from itself", entry.name);
            for (moment, wishes) in wishes.iter().enumerate() {
                let mut asked = ranked(wishes);
                asked.sort_unstable();
                asked.dedup();
                prop_assert_eq!(asked.len(), wishes.len(), "{} wishes twice", entry.name);
                // Layers done in this pass: 0 before the first router has spoken.
                let done = moment % 5;
                for wish in wishes {
                    let layer = usize::from(wish.layer);
                    prop_assert!(layer < 4 && wish.expert < 5, "{} {wish:?}", entry.name);
                    prop_assert!(wish.priority.is_finite(), "{} {wish:?}", entry.name);
                    let ahead = if layer >= done { layer - done } else { layer + 4 - done };
                    prop_assert!(ahead < depth, "{} {wish:?} after {done}", entry.name);
                    prop_assert!(layer >= done || entry.looks_ahead, "{}", entry.name);
                }
            }
            if !(entry.build)(&setting).listens() {
                let mut deaf = (entry.build)(&setting);
                let moments = [None, Some(0), Some(1), Some(2), Some(3)];
                for (layer, heard) in moments.into_iter().zip(&wishes) {
                    let mut unheard = Vec::new();
                    deaf.wish(&view(layer, 0, &first), &mut unheard);
                    prop_assert_eq!(&unheard, heard, "{} listens", entry.name);
                }
            }
            if !entry.looks_ahead {
                let blind = Tape::default();
                let mut prefetcher = (entry.build)(&setting);
                let mut moment = 0;
                for (number, tape) in [(0, &first), (1, &second)] {
                    for layer in [None, Some(0), Some(1), Some(2), Some(3)] {
                        if let Some(layer) = layer {
                            speak(prefetcher.as_mut(), layer, tape);
                        }
                        let mut unseen = Vec::new();
                        prefetcher.wish(&view(layer, number, &blind), &mut unseen);
                        prop_assert_eq!(&unseen, &wishes[moment], "{} peeks", entry.name);
                        moment += 1;
                    }
                }
            }
        }
    }
}

#[test]
fn names_are_alphabetical_and_found() {
    assert!(ALL.windows(2).all(|pair| pair[0].name < pair[1].name));
    for entry in ALL {
        assert_eq!(find(entry.name).unwrap().name, entry.name);
        assert!(!entry.about.is_empty() && entry.about.len() <= 90, "{}", entry.name);
    }
}
