//! What holds for every exporter in [`ALL`], whichever they are.

use std::collections::{BTreeMap, BTreeSet};

use moecast_profiles::ids::ExpertId;
use proptest::prelude::*;

use super::*;
use crate::plan::{Judged, Predicted, Provenance, VERSION};

/// Three hidden layers, the first one dense; four experts in six slots on two ranks.
pub(crate) fn tiny_plan() -> Plan {
    let row = |ids: [u16; 6]| ids.map(ExpertId).to_vec();
    let rows = vec![row([0, 1, 2, 3, 0, 1]), row([3, 2, 1, 0, 3, 2])];
    let judged = |train| Judged { train, heldout: Some(1.625) };
    Plan {
        version: VERSION,
        model: "tiny".to_owned(),
        layers: vec![1, 2],
        hidden_layers: Some(3),
        nodes: 1,
        placement: Placement::new(4, 2, rows).unwrap(),
        predicted: Predicted {
            imbalance: BTreeMap::from([
                ("linear".to_owned(), judged(1.5)),
                ("plan".to_owned(), judged(1.25)),
            ]),
            imbalance_bound: Some(Judged { train: 1.125, heldout: None }),
            step_time_us: BTreeMap::new(),
        },
        provenance: Provenance {
            tool: "0.1.0".to_owned(),
            algorithm: "eplb".to_owned(),
            seed: 7,
            trace_sha256: "00ff".to_owned(),
            synthetic: false,
            heldout: 0.25,
            cluster: String::new(),
            engine: String::new(),
        },
    }
}

/// What a reader of the tiny plan's files is told.
pub(crate) fn tiny_context() -> Context {
    context_of(&tiny_plan())
}

fn context_of(plan: &Plan) -> Context {
    Context {
        path: "f".to_owned(),
        experts: plan.placement.experts(),
        ranks: plan.placement.ranks(),
        layers: plan.layers.clone(),
    }
}

/// The first file of the tiny plan, which reads back as its placement.
pub(super) fn golden(entry: &Entry) -> String {
    let plan = tiny_plan();
    let file = (entry.write)(&plan).unwrap().remove(0);
    assert_eq!((entry.read)(&file.bytes, &context_of(&plan)).unwrap(), plan.placement);
    String::from_utf8(file.bytes).unwrap()
}

/// Replaces `from` by `to` in the tiny plan's file, once, and expects the error `f: expected`.
pub(super) fn check_refused(entry: &Entry, table: &[(&str, &str, &str)]) {
    let text = golden(entry);
    for (from, to, expected) in table {
        assert!(text.contains(from), "the table names `{from}`, which the file does not hold");
        let edited = text.replacen(from, to, 1);
        match (entry.read)(edited.as_bytes(), &tiny_context()) {
            Ok(_) => panic!("accepted with `{to}` in the place of `{from}`"),
            Err(error) => assert_eq!(error.to_string(), format!("f: {expected}")),
        }
    }
}

/// A plan whose ranks hold no expert twice: what every engine can load.
pub(crate) fn any_plan() -> impl Strategy<Value = Plan> {
    let shape = (1_u16..=8, 1_u16..=4, 1_usize..=3, 0_u16..=2).prop_flat_map(
        |(experts, ranks, layers, dense)| {
            let per_rank = experts.div_ceil(ranks)..=experts;
            (Just((experts, ranks, layers, dense)), per_rank)
        },
    );
    let figures = prop::array::uniform4(-1000..1000_i32);
    (shape, any::<u64>(), figures).prop_map(|((shape, per_rank), seed, figures)| {
        let (experts, ranks, layers, dense) = shape;
        let mut random = seed;
        let rows = (0..layers).map(|_| any_row(experts, ranks, per_rank, &mut random)).collect();
        // Dense layers before the first MoE layer and between any two.
        let numbers: Vec<u16> = (1..).map(|n| n * (dense + 1) - 1).take(layers).collect();
        // Sixteenths: floats that every reader of decimals gets right.
        let [a, b, c, d] = figures.map(|figure| f64::from(figure) / 16.0);
        let judged = Judged { train: a, heldout: Some(b) };
        let mut plan = tiny_plan();
        plan.hidden_layers = numbers.last().map(|last| last + 1 + dense);
        plan.layers = numbers;
        plan.placement = Placement::new(experts, ranks, rows).unwrap();
        plan.nodes = ranks;
        plan.predicted.imbalance = BTreeMap::from([("plan".to_owned(), judged)]);
        plan.predicted.imbalance_bound = (c > 0.0).then_some(Judged { train: c, heldout: None });
        plan.predicted.step_time_us = BTreeMap::from([(d.to_string(), judged)]);
        plan.provenance.seed = seed;
        plan
    })
}

/// Every expert somewhere, then ranks filled up with experts that they do not hold yet.
fn any_row(experts: u16, ranks: u16, per_rank: u16, random: &mut u64) -> Vec<ExpertId> {
    let mut below = |limit: usize| {
        *random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        usize::try_from(*random >> 33).unwrap() % limit
    };
    let mut shuffled = |mut ids: Vec<u16>| {
        for index in (1..ids.len()).rev() {
            ids.swap(index, below(index + 1));
        }
        ids
    };
    let all: Vec<u16> = (0..experts).collect();
    let dealt = shuffled(all.clone());
    let mut rank_row = |rank: usize| {
        let held: Vec<u16> = dealt.iter().copied().skip(rank).step_by(ranks.into()).collect();
        let rest = all.iter().copied().filter(|id| !held.contains(id)).collect();
        let rest = shuffled(rest);
        held.into_iter().chain(rest).take(per_rank.into()).collect::<Vec<u16>>()
    };
    let rows: Vec<Vec<u16>> = (0..usize::from(ranks)).map(&mut rank_row).collect();
    rows.into_iter().flatten().map(ExpertId).collect()
}

#[test]
fn names_ascend_and_every_entry_says_what_it_is() {
    assert!(ALL.windows(2).all(|pair| pair[0].name < pair[1].name), "alphabetical, no name twice");
    for entry in ALL {
        assert!(!entry.about.is_empty() && !entry.about.contains('\n'), "{}", entry.name);
        assert_eq!(find(entry.name).unwrap().name, entry.name);
    }
    assert!(find("sgland").err().unwrap().to_string().contains("did you mean `sglang`?"));
}

#[test]
fn files_have_plain_names_of_their_own_and_the_launch_text_names_the_first() {
    let mut names = BTreeSet::new();
    for entry in ALL {
        let plan = tiny_plan();
        let files = (entry.write)(&plan).unwrap();
        for file in &files {
            assert!(!file.name.contains(['/', '\\']), "{}", file.name);
            assert!(names.insert(file.name.clone()), "{} twice", file.name);
        }
        let launch = (entry.launch)(&plan);
        assert!(launch.contains(&files[0].name) && launch.ends_with('\n'), "{launch}");
    }
}

#[test]
fn a_file_cut_off_anywhere_is_refused_or_complete() {
    for entry in ALL {
        let text = golden(entry);
        for end in 0..text.len() {
            match (entry.read)(&text.as_bytes()[..end], &tiny_context()) {
                Err(error) => assert!(!error.to_string().contains('\n'), "{error}"),
                // Nothing but the last line end is missing.
                Ok(_) => assert_eq!(&text[end..], "\n", "{} at {end}", entry.name),
            }
        }
    }
}

#[test]
fn a_file_for_another_model_or_another_number_of_ranks_is_refused() {
    let other = |edit: fn(&mut Context)| {
        let mut context = tiny_context();
        edit(&mut context);
        context
    };
    let others = [
        other(|context| context.experts = 3),
        other(|context| context.experts = 5),
        other(|context| context.experts = 0),
        other(|context| context.ranks = 4),
        other(|context| context.ranks = 0),
        other(|context| context.layers = vec![1, 2, 3]),
        other(|context| context.layers = vec![]),
    ];
    for entry in ALL {
        for context in &others {
            let read = (entry.read)(golden(entry).as_bytes(), context);
            let error = read.expect_err(entry.name).to_string();
            assert!(error.starts_with("f: ") && !error.contains('\n'), "{context:?}: {error}");
        }
    }
}

#[test]
fn a_plan_that_breaks_a_law_is_written_by_none() {
    for entry in ALL {
        let plan = Plan { layers: vec![1], ..tiny_plan() };
        let error = (entry.write)(&plan).unwrap_err().to_string();
        assert_eq!(error, "plan: key `layers`: 1 layers; expected 2, as in the placement");
    }
}

#[test]
fn a_plan_without_a_model_is_written_or_the_error_says_what_to_pass() {
    for entry in ALL {
        let plan = Plan { hidden_layers: None, ..tiny_plan() };
        match (entry.write)(&plan) {
            Ok(files) => {
                let read = (entry.read)(&files[0].bytes, &tiny_context()).unwrap();
                assert_eq!(read, plan.placement);
            }
            Err(error) => assert!(error.to_string().contains("--model"), "{error}"),
        }
    }
}

#[test]
fn two_copies_on_a_rank_survive_or_are_refused_by_name() {
    let row = [0, 0, 1, 2, 3, 3].map(ExpertId).to_vec();
    let placement = Placement::new(4, 2, vec![row.clone(), row]).unwrap();
    for entry in ALL {
        let plan = Plan { placement: placement.clone(), ..tiny_plan() };
        match (entry.write)(&plan) {
            Ok(files) => {
                let read = (entry.read)(&files[0].bytes, &tiny_context()).unwrap();
                assert_eq!(read, plan.placement, "{}", entry.name);
            }
            Err(error) => {
                let error = error.to_string();
                assert!(error.contains("MoE layer 0, device 0: expert 0 twice"), "{error}");
            }
        }
    }
}

proptest! {
    #[test]
    fn importing_undoes_exporting(plan in any_plan()) {
        for entry in ALL {
            let files = (entry.write)(&plan).unwrap();
            let read = (entry.read)(&files[0].bytes, &context_of(&plan)).unwrap();
            prop_assert_eq!(&read, &plan.placement, "{}", entry.name);
        }
    }

    #[test]
    fn no_flipped_bit_makes_a_reader_panic(
        position in any::<prop::sample::Index>(), bit in 0..8_u8,
    ) {
        for entry in ALL {
            let mut bytes = golden(entry).into_bytes();
            let position = position.index(bytes.len());
            bytes[position] ^= 1 << bit;
            if let Err(error) = (entry.read)(&bytes, &tiny_context()) {
                prop_assert!(!error.to_string().contains('\n'), "{}", error);
            }
        }
    }

    #[test]
    fn no_text_makes_a_reader_panic(text in "(\\PC|[\\n{}\\[\\]:,&*\"0-9-]){0,60}") {
        for entry in ALL {
            if let Err(error) = (entry.read)(text.as_bytes(), &tiny_context()) {
                prop_assert!(!error.to_string().contains('\n'), "{}", error);
            }
        }
    }
}
