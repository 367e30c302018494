//! `plan.json`: the golden, the law that reading undoes writing, and files that are no plan.

use moecast_profiles::ids::ExpertId;
use proptest::prelude::*;

use super::*;
use crate::export::tests::{any_plan, tiny_plan};

fn refusal(text: &str) -> String {
    match Plan::read(text.as_bytes(), "plan.json") {
        Ok(plan) => format!("accepted: {plan:?}"),
        Err(error) => error.to_string(),
    }
}

#[test]
fn a_plan_is_one_line_per_layer() {
    let text = tiny_plan().to_json();
    insta::assert_snapshot!(text, @r#"
    {
      "version": 1,
      "model": "tiny",
      "layers": [1, 2],
      "hidden_layers": 3,
      "nodes": 1,
      "placement": {
        "experts": 4,
        "ranks": 2,
        "slots": 6,
        "layers": [
          [0, 1, 2, 3, 0, 1],
          [3, 2, 1, 0, 3, 2]
        ]
      },
      "predicted": {
        "imbalance": {
          "linear": {
            "train": 1.5,
            "heldout": 1.625
          },
          "plan": {
            "train": 1.25,
            "heldout": 1.625
          }
        },
        "imbalance_bound": {
          "train": 1.125,
          "heldout": null
        },
        "step_time_us": {}
      },
      "provenance": {
        "tool": "0.1.0",
        "algorithm": "eplb",
        "seed": 7,
        "trace_sha256": "00ff",
        "synthetic": false,
        "heldout": 0.25,
        "cluster": "",
        "engine": ""
      }
    }
    "#);
    assert_eq!(Plan::read(text.as_bytes(), "plan.json").unwrap(), tiny_plan());
}

proptest! {
    #[test]
    fn reading_undoes_writing(plan in any_plan()) {
        let text = plan.to_json();
        let again = Plan::read(text.as_bytes(), "plan.json").unwrap();
        prop_assert_eq!(again.to_json(), text);
        prop_assert_eq!(again, plan);
    }

    #[test]
    fn figures_survive_to_the_last_bit(train in any::<f64>(), heldout in any::<f64>()) {
        prop_assume!(train.is_finite() && heldout.is_finite());
        let mut plan = tiny_plan();
        plan.predicted.imbalance_bound = Some(Judged { train, heldout: Some(heldout) });
        prop_assert_eq!(Plan::read(plan.to_json().as_bytes(), "plan.json").unwrap(), plan);
    }

    #[test]
    fn no_bytes_make_the_reader_panic(position in any::<prop::sample::Index>(), bit in 0..8_u8) {
        let mut bytes = tiny_plan().to_json().into_bytes();
        let position = position.index(bytes.len());
        bytes[position] ^= 1 << bit;
        if let Err(error) = Plan::read(&bytes, "plan.json") {
            prop_assert!(!error.to_string().contains('\n'), "{}", error);
        }
    }
}

#[test]
fn text_and_seeds_of_any_kind_survive() {
    let mut plan = tiny_plan();
    plan.model = "a \"b\"\n\u{1}\u{7f}é\u{1f600}\\".to_owned();
    plan.provenance.seed = u64::MAX;
    plan.predicted.imbalance.insert("x\ny".to_owned(), Judged { train: 1.0, heldout: None });
    assert_eq!(Plan::read(plan.to_json().as_bytes(), "plan.json").unwrap(), plan);
}

#[test]
fn a_file_cut_off_anywhere_is_refused() {
    let text = tiny_plan().to_json();
    let whole = text.trim_end().len();
    for end in 0..whole {
        let message = refusal(&text[..end]);
        assert!(message.starts_with("plan.json: line "), "{end}: {message}");
    }
}

#[test]
fn a_later_version_is_answered_with_its_version() {
    let text = tiny_plan().to_json().replacen(
        "\"version\": 1",
        "\"version\": 2, \"cache\": {\"policy\": \"lru\"}",
        1,
    );
    assert_eq!(
        refusal(&text),
        "plan.json: key `version`: 2; expected 1, the version that this build reads"
    );
}

#[test]
fn every_key_must_be_there_once_and_no_other() {
    let text = tiny_plan().to_json();
    let value: serde_json::Value = serde_json::from_str(&text).unwrap();
    let nested = ["", "placement", "predicted", "provenance", "predicted.imbalance.plan"];
    for path in nested {
        let pointer = format!("/{}", path.replace('.', "/"));
        let pointer = if path.is_empty() { "" } else { &*pointer };
        let map = value.pointer(pointer).and_then(serde_json::Value::as_object).unwrap();
        for key in map.keys() {
            let mut edited = value.clone();
            edited.pointer_mut(pointer).unwrap().as_object_mut().unwrap().remove(key);
            let message = refusal(&edited.to_string());
            assert!(message.contains(&format!("no key `{key}`")), "{path} {key}: {message}");
            let mut edited = value.clone();
            let map = edited.pointer_mut(pointer).unwrap().as_object_mut().unwrap();
            map.insert("stranger".to_owned(), serde_json::Value::Null);
            let message = refusal(&edited.to_string());
            assert!(message.contains("unknown key `stranger`"), "{path}: {message}");
        }
    }
    for twice in ["\"version\": 1,", "\"slots\": 6,", "\"seed\": 7,", "\"train\": 1.5,"] {
        let message = refusal(&text.replacen(twice, &twice.repeat(2), 1));
        assert!(message.contains("duplicate key"), "{twice}: {message}");
    }
    // Names of placements are free, but not twice: the last one would win in silence.
    let message = refusal(&text.replacen("\"linear\":", "\"plan\":", 1));
    assert!(message.contains("duplicate key `plan`"), "{message}");
}

/// What is replaced, by what, and the error.
const REFUSED: &[(&str, &str, &str)] = &[
    (
        "\"version\": 1",
        "\"version\": null",
        "key `version`: null; expected 1, the version that \
          this build reads",
    ),
    (
        "\"layers\": [1, 2]",
        "\"layers\": [1]",
        "key `layers`: 1 layers; expected 2, as in the \
          placement",
    ),
    (
        "\"layers\": [1, 2]",
        "\"layers\": [2, 1]",
        "key `layers`: 2 before 1; expected absolute \
          layer numbers that ascend",
    ),
    (
        "\"layers\": [1, 2]",
        "\"layers\": [1, 3]",
        "key `layers`: 3; expected layer numbers below \
          3, as `hidden_layers` says",
    ),
    (
        "\"layers\": [1, 2]",
        "\"layers\": [1, 65536]",
        "key `layers[1]`: 65536; expected a layer \
          number below 65536",
    ),
    ("\"nodes\": 1", "\"nodes\": 3", "key `nodes`: 3; expected 1 to 2 nodes for 2 ranks"),
    ("\"nodes\": 1", "\"nodes\": -1", "key `nodes`: -1; expected a number of nodes up to 65535"),
    (
        "\"slots\": 6",
        "\"slots\": 8",
        "key `placement.slots`: 8; expected 6, the slots of every \
          layer",
    ),
    (
        "\"ranks\": 2",
        "\"ranks\": 4",
        "key `placement.layers[0]`: 6 slots; expected a number \
          that divides by 4 ranks",
    ),
    (
        "\"ranks\": 2",
        "\"ranks\": 0",
        "key `placement.layers[0]`: 6 slots; expected experts and \
          ranks, not 4 and 0",
    ),
    (
        "[3, 2, 1, 0, 3, 2]",
        "[3, 2, 1, 0, 3, 4]",
        "key `placement.layers[1][5]`: 4; expected an \
          expert id below 4",
    ),
    (
        "[3, 2, 1, 0, 3, 2]",
        "[3, 2, 1, 0, 3]",
        "key `placement.layers[1]`: 5 slots; expected 6, \
          as in key `placement.layers[0]`",
    ),
    (
        "\"train\": 1.5",
        "\"train\": null",
        "key `predicted.imbalance.linear.train`: null; \
          expected a number",
    ),
    (
        "\"train\": 1.5",
        "\"train\": 1e999",
        "line 19, column 22: number out of range; expected \
          complete JSON without duplicate keys",
    ),
    (
        "\"seed\": 7",
        "\"seed\": 7.5",
        "key `provenance.seed`: 7.5; expected a seed: an integer \
          from 0 to 2^64 - 1",
    ),
    (
        "\"synthetic\": false",
        "\"synthetic\": 0",
        "key `provenance.synthetic`: 0; expected true \
          or false",
    ),
];

#[test]
fn what_breaks_a_law_is_refused_by_key() {
    let text = tiny_plan().to_json();
    for (from, to, expected) in REFUSED {
        assert!(text.contains(from), "the table names `{from}`, which no plan holds");
        assert_eq!(refusal(&text.replacen(from, to, 1)), format!("plan.json: {expected}"));
    }
}

#[test]
fn counts_that_no_memory_holds_are_refused_without_asking_for_it() {
    // 65535 slots on 65534 ranks: the next number that would do does not fit the type.
    let row: Vec<u16> = (0..65535).collect();
    let text = tiny_plan()
        .to_json()
        .replacen("[0, 1, 2, 3, 0, 1]", &list(&row), 1)
        .replacen("\"experts\": 4", "\"experts\": 65535", 1)
        .replacen("\"ranks\": 2", "\"ranks\": 65534", 1);
    let message = refusal(&text);
    assert!(message.contains("expected a number that divides by 65534 ranks"), "{message}");
    assert!(refusal(&"[".repeat(100_000)).contains("recursion limit"));
    // A list in the place of the map, with every value in order.
    let message = refusal("[1, \"m\", [0], null, 1, {}, {}, {}]");
    assert!(message.starts_with("plan.json: the file: a list; expected a map"), "{message}");
}

#[test]
fn a_figure_that_is_no_number_is_refused_before_json_makes_it_null() {
    for figure in [f64::NAN, f64::INFINITY] {
        let mut plan = tiny_plan();
        plan.predicted.imbalance_bound = Some(Judged { train: 1.0, heldout: Some(figure) });
        let message = plan.check().unwrap_err().to_string();
        let place = "plan: key `predicted.imbalance_bound.heldout`";
        assert_eq!(message, format!("{place}: {figure}; expected a finite number"));
        let error = serde_json::to_string(&plan).unwrap_err().to_string();
        assert_eq!(error, format!("{figure} is no finite number"));
        assert!(std::panic::catch_unwind(|| plan.to_json()).is_err());
    }
}

#[test]
fn a_plan_for_another_model_names_both_shapes() {
    let plan = tiny_plan();
    plan.check_matches(4, &[1, 2], "plan.json").unwrap();
    let message =
        |experts, layers: &[u16]| plan.check_matches(experts, layers, "p").unwrap_err().to_string();
    let deepseek: Vec<u16> = (3..61).collect();
    assert_eq!(
        message(256, &deepseek),
        "p: the plan: a plan for 4 experts in 2 MoE layers 1 to 2 of tiny; expected a plan for \
         256 experts in 58 MoE layers 3 to 60"
    );
    let odd: Vec<u16> = (0..24).map(|layer| 2 * layer + 1).collect();
    assert!(message(4, &odd).ends_with("4 experts in 24 MoE layers 1, 3, ... 47"));
    assert!(message(4, &[]).ends_with("4 experts in 0 MoE layers []"));
    assert!(message(4, &[1, 3]).ends_with("4 experts in 2 MoE layers [1, 3]"));
}

#[test]
fn ids_are_written_as_numbers() {
    // `list` prints what it is given; this pins that an id prints as its number.
    assert_eq!(list(&[ExpertId(3), ExpertId(0)]), "[3, 0]");
}
