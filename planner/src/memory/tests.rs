//! Laws of `memory.json`.

use proptest::prelude::*;

use super::*;

/// Three hidden layers, the first one dense; four experts of 100 bytes, three pinned.
pub(crate) fn tiny_plan() -> MemoryPlan {
    MemoryPlan {
        version: VERSION,
        model: "tiny".to_owned(),
        layers: vec![1, 2],
        hidden_layers: Some(3),
        experts: 4,
        top_k: 2,
        pinned: vec![vec![ExpertId(1)], vec![ExpertId(0), ExpertId(3)]],
        slots: Slots::PerLayer(vec![2, 1]),
        policy: "lru".to_owned(),
        prefetcher: Prefetcher { name: "gate-ahead".to_owned(), depth: 1, accuracy: Some(0.875) },
        compute: "gpu".to_owned(),
        bits: Vec::new(),
        stored_bits: None,
        expert_bytes: vec![100, 100],
        budget: 650,
        gpu_bytes: Some(1000),
        other_bytes: None,
        loads: vec![vec![3, 5, 0, 1], vec![2, 2, 4, 1]],
        predicted: Predicted {
            train: Figures { tokens_per_second: Some(5.5), ..Figures::default() },
            heldout: Some(Figures { hit_rate: Some(0.75), ..Figures::default() }),
        },
        provenance: Provenance {
            tool: "0.1.0".to_owned(),
            search: "marginal".to_owned(),
            seed: 7,
            trace_sha256: "00ff".to_owned(),
            heldout: 0.25,
            remarks: vec!["assumed".to_owned()],
            ..Provenance::default()
        },
    }
}

/// A plan whose pinned experts and slots fit its budget.
pub(crate) fn any_plan() -> impl Strategy<Value = MemoryPlan> {
    let shape = (1_u16..=6, 1_usize..=5, 1_u16..=3);
    let shape = (shape, any::<u64>(), any::<bool>(), any::<bool>());
    shape.prop_map(|((experts, layers, freq), seed, is_global, has_bits)| {
        let mut random = seed;
        let mut below = |limit: u64| {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (random >> 33) % limit
        };
        let first = u16::try_from(below(3)).unwrap();
        let mut plan = tiny_plan();
        // Layers as engines know them: dense ones first, then every `freq`-th.
        plan.layers = (first..).filter(|layer| layer % freq == 0).take(layers).collect();
        plan.hidden_layers = plan.layers.last().map(|last| last + 1);
        (plan.experts, plan.top_k) = (experts, 1);
        plan.pinned = (0..layers)
            .map(|_| (0..experts).filter(|_| below(2) == 0).map(ExpertId).collect())
            .collect();
        let free = plan.pinned.iter().map(|row| u64::from(experts) - row.len() as u64);
        let slots: Vec<u32> = free.map(|free| u32::try_from(below(free + 1)).unwrap()).collect();
        plan.slots =
            if is_global { Slots::Global(slots.iter().sum()) } else { Slots::PerLayer(slots) };
        if has_bits {
            let mut row = || (0..experts).map(|_| [2, 3, 4][below(3) as usize]).collect();
            plan.bits = (0..layers).map(|_| row()).collect();
            plan.stored_bits = Some(16);
        }
        plan.expert_bytes = vec![1000; layers];
        let mut row = || (0..experts).map(|_| below(100)).collect();
        plan.loads = (0..if has_bits { layers } else { 0 }).map(|_| row()).collect();
        let needed = plan.pinned_bytes() + plan.slot_bytes() + u128::from(below(2000));
        plan.budget = u64::try_from(needed).unwrap();
        plan
    })
}

#[test]
fn the_file_is_read_line_by_line() {
    insta::assert_snapshot!(tiny_plan().to_json(), @r#"
    {
      "version": 1,
      "model": "tiny",
      "layers": [1, 2],
      "hidden_layers": 3,
      "experts": 4,
      "top_k": 2,
      "pinned": [
        [1],
        [0, 3]
      ],
      "slots": {"per_layer": [2, 1]},
      "policy": "lru",
      "prefetcher": {
        "name": "gate-ahead",
        "depth": 1,
        "accuracy": 0.875
      },
      "compute": "gpu",
      "bits": [],
      "stored_bits": null,
      "expert_bytes": [100, 100],
      "budget": 650,
      "gpu_bytes": 1000,
      "other_bytes": null,
      "loads": [
        [3, 5, 0, 1],
        [2, 2, 4, 1]
      ],
      "predicted": {
        "train": {
          "tokens_per_second": 5.5,
          "hit_rate": null,
          "link_bytes_per_token": null,
          "ttft_ms": null,
          "stall_share": null
        },
        "heldout": {
          "tokens_per_second": null,
          "hit_rate": 0.75,
          "link_bytes_per_token": null,
          "ttft_ms": null,
          "stall_share": null
        }
      },
      "provenance": {
        "tool": "0.1.0",
        "search": "marginal",
        "precision": "",
        "seed": 7,
        "trace_sha256": "00ff",
        "synthetic": false,
        "heldout": 0.25,
        "machine": "",
        "remarks": [
          "assumed"
        ]
      }
    }
    "#);
}

#[test]
fn bits_shrink_experts_and_a_slot_takes_the_largest_that_is_not_pinned() {
    let mut plan = tiny_plan();
    plan.bits = vec![vec![8, 16, 4, 4], vec![16, 3, 3, 16]];
    plan.stored_bits = Some(16);
    // Layer 0 pins expert 1 at 16 bits; the widest other is expert 0 at 8.
    assert_eq!((plan.expert_size(0, ExpertId(1)), plan.slot_size(0)), (100, 50));
    // Layer 1: three of sixteen bits of 100 bytes are 18.75.
    assert_eq!(plan.slot_size(1), 19);
    assert_eq!((plan.pinned_bytes(), plan.slot_bytes()), (300, 2 * 50 + 19));
    plan.slots = Slots::Global(3);
    assert_eq!(plan.slot_bytes(), 150);
}

/// What is replaced, by what, and the error.
const REFUSED: &[(&str, &str, &str)] = &[
    ("\"version\": 1", "\"version\": 2", "key `version`: 2; expected 1, the version that this"),
    ("\"slots\"", "\"slot\"", "the file: unknown key `slot`; expected `slots`, or no such key"),
    ("[1, 2]", "[2, 1]", "key `layers`: 2 before 1; expected absolute numbers that ascend"),
    ("[1, 2]", "[1, 3]", "key `layers`: 3; expected layer numbers below 3"),
    ("[1, 2]", "[1]", "key `pinned`: 2 layers; expected 1, one for each of `layers`"),
    ("[0, 3]", "[0, 4]", "key `pinned[1][1]`: 4; expected an expert id below 4"),
    ("[0, 3]", "[3, 0]", "key `pinned[1]`: 3 before 0; expected experts that ascend, each once"),
    ("{\"per_layer\": [2, 1]}", "{\"per_layer\": [2]}", "key `slots`: 1 layers; expected 2"),
    ("[2, 1]", "[2, 3]", "key `slots.per_layer[1]`: 3 slots; expected at most 2"),
    ("{\"per_layer\": [2, 1]}", "{\"global\": 6}", "key `slots.global`: 6 slots; expected at"),
    ("{\"per_layer\": [2, 1]}", "{}", "key `slots`: another key; expected one key, `per_layer`"),
    ("\"budget\": 650", "\"budget\": 599", "key `budget`: 599 bytes for 600 bytes of experts"),
    ("0.875", "1.5", "key `prefetcher.accuracy`: 1.5; expected 0 to 1"),
    ("\"bits\": []", "\"bits\": [[1], [1]]", "key `bits[0]`: 1 widths; expected 4"),
    ("[100, 100]", "[100, 0]", "key `expert_bytes[1]`: 0; expected bytes"),
    ("[100, 100]", "[100, -1]", "key `expert_bytes[1]`: -1; expected a number of bytes"),
];

#[test]
fn what_breaks_a_law_is_refused_by_key() {
    let text = tiny_plan().to_json();
    for (from, to, expected) in REFUSED {
        assert!(text.contains(from), "the table names `{from}`");
        let edited = text.replacen(from, to, 1);
        let error = MemoryPlan::read(edited.as_bytes(), "f").unwrap_err().to_string();
        assert!(error.starts_with(&format!("f: {expected}")), "{error}");
    }
}

#[test]
fn a_file_cut_off_anywhere_is_refused() {
    let text = tiny_plan().to_json();
    for end in 0..text.trim_end().len() {
        MemoryPlan::read(&text.as_bytes()[..end], "f").unwrap_err();
    }
}

#[test]
fn a_plan_for_another_model_names_both() {
    let error = tiny_plan().check_matches(8, &[1, 2], "f").unwrap_err();
    assert_eq!(
        error.to_string(),
        "f: the memory plan: a plan for 4 experts in 2 MoE layers 1 to 2 of tiny; expected a plan \
         for 8 experts in 2 MoE layers 1 to 2"
    );
}

proptest! {
    #[test]
    fn reading_undoes_writing(plan in any_plan()) {
        plan.check().unwrap();
        prop_assert_eq!(MemoryPlan::read(plan.to_json().as_bytes(), "f").unwrap(), plan);
    }

    #[test]
    fn one_byte_less_than_needed_is_refused(plan in any_plan()) {
        let needed = plan.pinned_bytes() + plan.slot_bytes();
        prop_assume!(needed > 0);
        let plan = MemoryPlan { budget: u64::try_from(needed - 1).unwrap(), ..plan };
        prop_assert!(plan.check().unwrap_err().to_string().contains("`budget`"));
    }
}
