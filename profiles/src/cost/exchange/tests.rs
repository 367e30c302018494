//! Laws of exchange models; published figures are in `published`.

mod published;

use proptest::prelude::*;

use super::*;
use crate::builtin;
use crate::hardware::Device;
use crate::ids::Rank;
use crate::units::Bandwidth;

pub(super) fn cluster(spec: &str) -> Hardware {
    Hardware::from_spec(spec).unwrap()
}

/// DeepEP's own setting: DeepSeek-V3, 8 bits there and 16 back.
pub(super) fn build_with(
    name: &str,
    hardware: &Hardware,
    types: [DataType; 2],
    profile: Option<&Profile>,
) -> crate::Result<Arc<dyn ExchangeModel>> {
    let model = &builtin::model("deepseek-v3").unwrap();
    let [dispatch_type, combine_type] = types;
    let setting = Setting { hardware, model, dispatch_type, combine_type, profile };
    (find(name).unwrap().build)(&setting)
}

pub(super) fn build(name: &str, hardware: &Hardware) -> crate::Result<Arc<dyn ExchangeModel>> {
    build_with(name, hardware, [DataType::Fp8, DataType::Bf16], None)
}

/// `tokens` tokens a rank, whose 8 picks go to 8 ranks, other ones in turn: evenly routed.
pub(super) fn even(hardware: &Hardware, tokens: u16) -> Copies {
    let ranks = hardware.ranks();
    let mut copies = Copies::new(ranks, ranks / hardware.nodes());
    for source in 0..ranks {
        for token in 0..tokens {
            let target = |pick: u16| Rank((source + 1 + token + pick * (ranks / 8)) % ranks);
            copies.add(Rank(source), (0..8).map(target));
        }
    }
    copies
}

/// Traffic of picks: (source, first target, second target) of every token.
fn traffic(hardware: &Hardware, tokens: &[(u16, u16, u16)]) -> Traffic {
    let ranks = hardware.ranks();
    let mut copies = Copies::new(ranks, ranks / hardware.nodes());
    for &(source, first, second) in tokens {
        copies.add(Rank(source), [Rank(first), Rank(second)]);
    }
    copies.traffic()
}

#[test]
fn copies_are_counted_as_each_kernel_sends_them() {
    // Two nodes of two. A token of rank 0 picks rank 1 once, rank 2 once and rank 3 twice.
    let mut copies = Copies::new(4, 2);
    copies.add(Rank(0), [1, 2, 3, 3].map(Rank));
    let Traffic { tokens_most, per_pick, per_rank, per_node } = copies.traffic();
    let port = |busiest, total| Port { busiest, total };
    assert_eq!(tokens_most, 1);
    // Three picks leave rank 0's network card; rank 3 receives two of them.
    assert_eq!(per_pick, Ports { local: 0, domain: port(1, 1), network: port(3, 3) });
    assert_eq!(per_rank, Ports { local: 0, domain: port(1, 1), network: port(2, 2) });
    // One copy reaches rank 2, which has rank 0's place; it keeps it and passes one to rank 3.
    assert_eq!(per_node, Ports { local: 0, domain: port(1, 2), network: port(1, 1) });
    copies.clear();
    assert_eq!(copies.traffic(), Traffic::default());
}

#[test]
fn a_port_counts_what_it_receives_too() {
    // Three ranks send one copy each to rank 0, whose port is the busiest.
    let traffic = traffic(&cluster("h200-sxm:4"), &[(1, 0, 0), (2, 0, 0), (3, 0, 0)]);
    assert_eq!(traffic.per_rank.domain, Port { busiest: 3, total: 3 });
    assert_eq!(traffic.per_pick.domain, Port { busiest: 6, total: 6 });
}

#[test]
fn the_baseline_is_latency_and_bytes_of_the_busiest_port() {
    // Three copies of 2 x 7168 bytes into one port at 450 GB/s are 95.6 ns, after 2 us.
    let hardware = cluster("h200-sxm:2x2");
    let model = build("ports", &hardware).unwrap();
    let near = traffic(&hardware, &[(1, 0, 0), (1, 0, 0), (1, 0, 0)]);
    assert_eq!(model.time(Way::Combine, &near), Nanos(2_000 + 96));
    // One over the network at 50 GB/s: 286.7 ns after 5 us; NVLink hides behind it.
    let far = traffic(&hardware, &[(1, 0, 0), (1, 0, 0), (1, 0, 2)]);
    assert_eq!(model.time(Way::Combine, &far), Nanos(5_000 + 287));
}

#[test]
fn nothing_to_send_takes_no_time() {
    for entry in ALL {
        for spec in ["h200-sxm:1", "h200-sxm:8", "b200:4x8"] {
            let Ok(model) = build(entry.name, &cluster(spec)) else { continue };
            for way in Way::ALL {
                assert_eq!(model.time(way, &Traffic::default()), Nanos(0), "{}", entry.name);
            }
        }
    }
}

#[test]
fn only_the_all_gather_is_blind_to_routing() {
    for entry in ALL {
        let model = build(entry.name, &cluster("h200-sxm:8")).unwrap();
        assert_eq!(model.gathers(), entry.name.starts_with("all-gather"), "{}", entry.name);
        assert!(model.multiprocessors() <= 32, "{}", entry.name);
    }
}

#[test]
fn every_model_says_how_it_is_known() {
    let profile = builtin::profile("h200-sxm-sglang").unwrap();
    for entry in ALL {
        for profile in [None, Some(&profile)] {
            let hardware = cluster("h200-sxm:8");
            let types = [DataType::Fp8, DataType::Bf16];
            let model = build_with(entry.name, &hardware, types, profile).unwrap();
            let known = model.known();
            let kernels: Vec<&str> = known.iter().map(|known| known.kernel.as_str()).collect();
            assert_eq!(kernels, ["dispatch", "combine"], "{}", entry.name);
            for known in known {
                assert!((0.0..=1.0).contains(&known.error) && !known.by.is_empty(), "{known:?}");
                let never = ["fused", "one-sided-nvlink", "ports"].contains(&entry.name);
                let by_table = ["table", "profile"].iter().any(|word| known.by.contains(word));
                assert_eq!(by_table, profile.is_some() && !never, "{known:?}");
            }
        }
    }
}

#[test]
fn two_levels_gain_where_messages_are_small_and_ranks_many() {
    // 64 ranks send 56 messages each between nodes, or 7 of eight times the size and one
    // exchange inside the node. With 16 ranks, and with much to send, the linear one wins.
    let gain = |spec: &str, tokens| {
        let hardware = cluster(spec);
        let traffic = even(&hardware, tokens).traffic();
        let time = |name| build(name, &hardware).unwrap().time(Way::Combine, &traffic).as_micros();
        time("nccl-all-to-all") / time("hierarchical")
    };
    assert!(gain("h200-sxm:8x8", 1) > 1.5, "{}", gain("h200-sxm:8x8", 1));
    assert!(gain("h200-sxm:8x8", 8) > gain("h200-sxm:8x8", 64));
    assert!(gain("h200-sxm:2x8", 1) < 1.0 && gain("h200-sxm:2x8", 512) < 1.0);
    assert!((gain("h200-sxm:8", 64) - 1.0).abs() < 1e-6, "one node has one level");
}

#[test]
fn tokens_that_stay_have_no_way_back() {
    let hardware = cluster("h200-sxm:8");
    let mut model = builtin::model("deepseek-v3").unwrap();
    let traffic = even(&hardware, 16).traffic();
    let time = |model: &ModelShape, name: &str, way| {
        let [dispatch_type, combine_type] = [DataType::Bf16; 2];
        let hardware = &hardware;
        let setting = Setting { hardware, model, dispatch_type, combine_type, profile: None };
        (find(name).unwrap().build)(&setting).unwrap().time(way, &traffic)
    };
    // With one expert a token there is nothing to add up; with eight, seven results travel.
    model.top_k = 1;
    assert_eq!(time(&model, "context-coherent", Way::Combine), Nanos(0));
    // The all-to-all of NCCL, and a 58th of an all-gather.
    let once = time(&model, "context-coherent", Way::Dispatch);
    let linear = time(&model, "nccl-all-to-all", Way::Dispatch);
    assert!(once > linear && once.0 < linear.0 + 1_000, "{once:?} {linear:?}");
    model.top_k = 8;
    let back = time(&model, "context-coherent", Way::Combine);
    assert!(back > Nanos(0) && back < time(&model, "nccl-all-to-all", Way::Combine));
}

#[test]
fn a_fused_kernel_waits_for_a_signal_and_its_bytes() {
    // 2 x 2 us of latency, and three copies of 14,336 bytes at 0.72 x 450 GB/s.
    let hardware = cluster("h200-sxm:4");
    let model = build("fused", &hardware).unwrap();
    let traffic = traffic(&hardware, &[(1, 0, 0), (1, 0, 1)]);
    assert_eq!(model.time(Way::Combine, &traffic), Nanos(4_000 + 133));
    assert_eq!(model.start(Way::Combine), Nanos(4_000));
}

#[test]
fn stores_do_not_reach_over_the_network() {
    let error = build("one-sided-nvlink", &cluster("h200-sxm:2x8")).err().unwrap().to_string();
    assert!(error.contains("2 NVLink domains"), "{error}");
}

#[test]
fn names_are_alphabetical_and_described() {
    assert!(ALL.windows(2).all(|pair| pair[0].name < pair[1].name));
    assert!(ALL.iter().all(|entry| !entry.about.is_empty() && !entry.about.contains('\n')));
    let answer = find("deepep-norml").map(|entry| entry.name).unwrap_err().to_string();
    assert!(answer.contains("did you mean `deepep-normal`?"), "{answer}");
}

/// A token on one of 8 ranks with two picks.
fn token() -> impl Strategy<Value = (u16, u16, u16)> {
    (0..8_u16, 0..8_u16, 0..8_u16)
}

fn times(hardware: &Hardware, traffic: &Traffic) -> Vec<Nanos> {
    let models = ALL.iter().filter_map(|entry| build(entry.name, hardware).ok());
    models.flat_map(|model| Way::ALL.map(|way| model.time(way, traffic))).collect()
}

/// Whether no time of `after` is less than the one of `before`.
fn none_less(after: &[Nanos], before: &[Nanos]) -> bool {
    after.iter().zip(before).all(|(after, before)| after >= before)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn one_more_token_never_takes_less_time(
        tokens in prop::collection::vec(token(), 0..200),
        more in token(),
    ) {
        for spec in ["h200-sxm:8", "h100-sxm:2x4", "b200:4x2"] {
            let hardware = cluster(spec);
            let before = times(&hardware, &traffic(&hardware, &tokens));
            let tokens: Vec<_> = tokens.iter().copied().chain([more]).collect();
            let after = times(&hardware, &traffic(&hardware, &tokens));
            prop_assert!(none_less(&after, &before), "{spec}: {before:?} {after:?}");
        }
    }

    #[test]
    fn a_start_is_part_of_every_time(
        tokens in prop::collection::vec(token(), 1..20),
        measured in any::<bool>(),
    ) {
        let profile = measured.then(|| builtin::profile("h200-sxm-sglang").unwrap());
        for spec in ["h200-sxm:8", "h200-sxm:2x8", "b200:4x2"] {
            let hardware = cluster(spec);
            // The token of (0, 1, 7) leaves its rank, whatever the others do.
            let tokens: Vec<_> = tokens.iter().copied().chain([(0, 1, 7)]).collect();
            let traffic = traffic(&hardware, &tokens);
            for entry in ALL {
                let types = [DataType::Fp8, DataType::Bf16];
                let model = build_with(entry.name, &hardware, types, profile.as_ref());
                let Ok(model) = model else { continue };
                for way in Way::ALL {
                    let (start, time) = (model.start(way), model.time(way, &traffic));
                    prop_assert!(start <= time, "{} {spec}: {start:?} {time:?}", entry.name);
                }
            }
        }
    }

    #[test]
    fn names_of_ranks_and_nodes_do_not_matter(
        tokens in prop::collection::vec(token(), 0..200),
        shift in 0..4_u16,
    ) {
        // Ranks turn within their node of four, both nodes by as much, and the nodes swap.
        let hardware = cluster("h200-sxm:2x4");
        let renamed = |rank: u16| (rank / 4 + 1) % 2 * 4 + (rank + shift) % 4;
        let other: Vec<_> =
            tokens.iter().map(|&(a, b, c)| (renamed(a), renamed(b), renamed(c))).collect();
        let (tokens, other) = (traffic(&hardware, &tokens), traffic(&hardware, &other));
        prop_assert_eq!(tokens, other);
        prop_assert_eq!(times(&hardware, &tokens), times(&hardware, &other));
    }

    #[test]
    fn ranks_of_a_node_are_equal_where_copies_go_straight(
        tokens in prop::collection::vec(token(), 0..200),
        order in Just([0_u16, 1, 2, 3]).prop_shuffle(),
    ) {
        // One node alone is renamed: normal DeepEP, whose ranks pass on what their namesakes
        // send, is not indifferent to that.
        let hardware = cluster("h200-sxm:2x4");
        let renamed = |rank: u16| if rank < 4 { order[usize::from(rank)] } else { rank };
        let other: Vec<_> =
            tokens.iter().map(|&(a, b, c)| (renamed(a), renamed(b), renamed(c))).collect();
        let (tokens, other) = (traffic(&hardware, &tokens), traffic(&hardware, &other));
        prop_assert_eq!(tokens.per_pick, other.per_pick);
        prop_assert_eq!(tokens.per_rank, other.per_rank);
    }

    #[test]
    fn more_bandwidth_is_never_slower(
        tokens in prop::collection::vec(token(), 1..200),
        domain in 1..4_u64,
        network in 1..4_u64,
    ) {
        let with = |device: Device| Hardware::new(device, 2, 4).unwrap();
        let slow = builtin::device("h200-sxm").unwrap();
        let mut fast = slow.clone();
        fast.domain_bandwidth.value = Bandwidth(slow.domain_bandwidth.value.0 * domain);
        fast.network_bandwidth.value = Bandwidth(slow.network_bandwidth.value.0 * network);
        let (slow, fast) = (with(slow), with(fast));
        let traffic = traffic(&slow, &tokens);
        prop_assert!(none_less(&times(&slow, &traffic), &times(&fast, &traffic)));
    }

    #[test]
    fn every_pick_is_counted_once(tokens in prop::collection::vec(token(), 0..200)) {
        let traffic = traffic(&cluster("h200-sxm:2x4"), &tokens);
        let sum = |ports: Ports| ports.local + ports.domain.total + ports.network.total;
        prop_assert_eq!(sum(traffic.per_pick), 2 * tokens.len() as u64);
        prop_assert!(sum(traffic.per_rank) <= sum(traffic.per_pick));
        prop_assert!(traffic.per_node.network.total <= traffic.per_rank.network.total);
        prop_assert!(traffic.per_node.network.total <= tokens.len() as u64);
    }
}
