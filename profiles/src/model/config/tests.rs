use std::path::PathBuf;

use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::builtin::{self, MODELS};
use crate::model::{Attention, DataType};
use crate::registry::Named as _;

/// The cut-down `config.json` of a preset: only the keys that this reader looks at.
fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests-data/models/{name}.json"))
}

/// The presets that have one: OpenMoE came with code of its own, whose keys no other family has.
fn configured() -> Vec<&'static builtin::Preset> {
    MODELS.iter().filter(|preset| preset.name() != "openmoe-8b").collect()
}

fn fixture_value(name: &str) -> Value {
    serde_json::from_slice(&std::fs::read(fixture(name)).unwrap()).unwrap()
}

fn read(value: &Value) -> Result<ModelShape> {
    parse(value.to_string().as_bytes(), "config.json", "model", false)
}

/// The fixture of `name` with each key set to its value.
fn edited<const N: usize>(name: &str, edits: [(&str, Value); N]) -> Result<ModelShape> {
    let mut value = fixture_value(name);
    for (key, edit) in edits {
        value[key] = edit;
    }
    read(&value)
}

/// The error after setting one key of a fixture.
fn refusal(name: &str, key: &str, value: Value) -> String {
    edited(name, [(key, value)]).unwrap_err().to_string()
}

#[test]
fn every_preset_is_what_its_configuration_says() {
    for preset in configured() {
        let shipped = builtin::model(preset.name()).unwrap();
        let mut shape = read_config(&fixture(preset.name())).unwrap();
        // What a shape cannot say is remarked behind it.
        assert!(shape.source.contains("(Hugging Face config.json)"), "{}", shape.source);
        shape.source.clone_from(&shipped.source);
        assert_eq!(shape, shipped);
    }
}

#[test]
fn a_model_is_called_after_its_folder_or_its_file() {
    assert_eq!(name_of(Path::new("models/DeepSeek-V3/config.json")), "DeepSeek-V3");
    assert_eq!(name_of(Path::new("models/DeepSeek-V3.json")), "DeepSeek-V3");
    assert_eq!(name_of(Path::new("config.json")), "config");
    assert_eq!(name_of(Path::new("..")), "config");
}

#[test]
fn the_text_model_may_be_nested_in_a_larger_one() {
    let nested = json!({"model_type": "kimi_k25", "text_config": fixture_value("kimi-k2")});
    assert_eq!(read(&nested).unwrap(), edited("kimi-k2", []).unwrap());
}

#[test]
fn a_quantisation_may_stand_beside_the_nested_text_model() {
    let text = fixture_value("qwen3-30b-a3b");
    let nested = json!({"text_config": text, "quantization_config": {"quant_method": "fp8"}});
    assert_eq!(read(&nested).unwrap().expert_type, DataType::Fp8);
}

#[test]
fn qwen2_moe_has_one_wide_shared_expert_and_dense_layers_between() {
    // Qwen1.5-MoE-A2.7B: 60 experts 1408 wide, a shared one 5632 wide. Of 6 layers, every second
    // counted from 1 has experts, without layer 3: layers 1 and 5 remain.
    let value = json!({
        "model_type": "qwen2_moe", "hidden_size": 2048, "num_hidden_layers": 6,
        "num_attention_heads": 16, "num_key_value_heads": 16, "vocab_size": 151_936,
        "num_experts": 60, "num_experts_per_tok": 4, "moe_intermediate_size": 1408,
        "shared_expert_intermediate_size": 5632, "intermediate_size": 5632,
        "decoder_sparse_step": 2, "mlp_only_layers": [3],
        "use_sliding_window": false, "sliding_window": 32_768, "max_window_layers": 4,
    });
    let shape = read(&value).unwrap();
    assert_eq!((shape.expert_inter, shape.shared_inter, shape.dense_inter), (1408, 5632, 5632));
    assert_eq!(shape.moe_layers, [1, 5]);
    let (window, windowed_layers) = (None, 0);
    let expected =
        Attention::Gqa { heads: 16, kv_heads: 16, head_dim: 128, window, windowed_layers };
    assert_eq!(shape.attention, expected);
}

#[test]
fn qwen_gives_the_window_to_the_layers_after_the_full_ones() {
    let edits = [
        ("use_sliding_window", json!(true)),
        ("sliding_window", json!(4096)),
        ("max_window_layers", json!(28)),
    ];
    let shape = edited("qwen3-30b-a3b", edits).unwrap();
    let Attention::Gqa { window, windowed_layers, .. } = shape.attention else { panic!("grouped") };
    assert_eq!((window, windowed_layers), (Some(4096), 20));
}

#[test]
fn deepseek_v2_lite_does_not_compress_queries() {
    let edits = [("q_lora_rank", Value::Null), ("n_group", json!(1)), ("topk_group", json!(1))];
    let shape = edited("deepseek-v3", edits).unwrap();
    assert!(matches!(shape.attention, Attention::Mla { q_lora_rank: 0, .. }));
    assert_eq!(shape.expert_groups, 1);
}

#[test]
fn the_layers_with_experts_are_those_that_no_rule_excludes() {
    let edits = [("moe_layer_freq", json!(20)), ("first_k_dense_replace", json!(3))];
    assert_eq!(edited("deepseek-v3", edits).unwrap().moe_layers, [20, 40, 60]);

    let flags: Vec<u8> = (0..61).map(|layer| u8::from(layer == 7 || layer == 1)).collect();
    assert_eq!(
        edited("deepseek-v3", [("moe_layer_freq", json!(flags))]).unwrap().moe_layers,
        [7],
        "layer 1 is dense by first_k_dense_replace"
    );

    let mut kinds = vec!["dense"; 61];
    kinds[60] = "sparse";
    assert_eq!(
        edited("deepseek-v3", [("mlp_layer_types", json!(kinds))]).unwrap().moe_layers,
        [60]
    );
}

#[test]
fn weights_are_stored_as_the_quantisation_says() {
    use DataType::{Bf16, Fp8, Mxfp4};
    let cases = [
        (json!(null), (Bf16, Bf16)),
        (json!({"quant_method": "mxfp4"}), (Mxfp4, Bf16)),
        (json!({"quant_method": "fp8"}), (Fp8, Fp8)),
        (json!({"quant_method": "modelopt", "quant_algo": "FP8"}), (Fp8, Fp8)),
        (json!({"quant_method": "compressed-tensors", "format": "float-quantized"}), (Fp8, Fp8)),
        (
            json!({"quant_method": "fp8", "modules_to_not_convert": ["re:.*self_attn.*"]}),
            (Fp8, Bf16),
        ),
        (
            json!({"quant_method": "fp8", "modules_to_not_convert": [
                "lm_head", "model.layers.0.self_attn.o_proj", "model.layers.1.self_attn.q_norm",
            ]}),
            (Fp8, Fp8),
        ),
    ];
    for (quantization, types) in cases {
        let edits = [("quantization_config", quantization.clone())];
        let shape = edited("qwen3-30b-a3b", edits).unwrap();
        assert_eq!((shape.expert_type, shape.dense_type), types, "{quantization}");
    }
    let text = refusal(
        "qwen3-30b-a3b",
        "quantization_config",
        json!({"quant_method": "modelopt", "quant_algo": "NVFP4"}),
    );
    assert_eq!(
        text,
        "config.json: quantization_config.quant_method: modelopt NVFP4; \
         expected fp8, mxfp4, or no quantisation"
    );
}

#[test]
fn a_quantisation_in_a_file_of_its_own_is_not_overlooked() {
    let bytes = std::fs::read(fixture("mixtral-8x7b")).unwrap();
    let text = parse(&bytes, "config.json", "mixtral", true).unwrap_err().to_string();
    assert!(text.contains("hf_quant_config.json"), "{text}");
}

#[test]
fn what_the_shape_leaves_out_is_said_in_its_source() {
    let edits = [("index_topk", json!(2048)), ("torch_dtype", json!("float32"))];
    let source = edited("deepseek-v3", edits).unwrap().source;
    assert!(source.contains("index_topk is left out"), "{source}");
    let source = edited("mixtral-8x7b", [("torch_dtype", json!("float32"))]).unwrap().source;
    assert!(source.contains("stored as float32"), "{source}");
}

#[test]
fn a_structure_that_no_shape_expresses_is_refused() {
    for (key, _) in NOT_DESCRIBED {
        let text = refusal("qwen3-30b-a3b", key, json!(2));
        assert!(text.starts_with(&format!("config.json: {key}: 2 (")), "{text}");
    }
    let text = refusal("gpt-oss-120b", "layer_types", json!(["linear_attention"]));
    assert!(text.starts_with("config.json: layer_types: \"linear_attention\""), "{text}");
    let text = refusal("mixtral-8x7b", "attn_type_list", json!([1, 0]));
    assert!(text.starts_with("config.json: attn_type_list: 0 (linear attention)"), "{text}");
}

#[test]
fn a_dense_model_is_refused_in_words() {
    for experts in [json!(0), json!(null)] {
        let text = refusal("qwen3-30b-a3b", "num_experts", experts);
        assert!(text.contains("a dense model; expected a Mixture-of-Experts model"), "{text}");
    }
}

#[test]
fn a_wrong_number_is_answered_with_the_key_and_the_range() {
    let cases = [
        ("num_hidden_layers", json!(4_000_000_000_u64), "4000000000; expected a whole number"),
        ("num_hidden_layers", json!(0), "0; expected a whole number from 1 to 1024"),
        ("num_hidden_layers", json!(-61), "-61; expected a whole number from 1 to 1024"),
        ("num_hidden_layers", json!(61.5), "61.5; expected a whole number from 1 to 1024"),
        ("num_hidden_layers", json!("61"), "\"61\"; expected a whole number from 1 to 1024"),
        ("num_hidden_layers", json!(1e300), "1e+300; expected a whole number from 1 to 1024"),
        ("hidden_size", json!(u64::MAX), "18446744073709551615; expected a whole number"),
        ("n_routed_experts", json!(65_536), "65536; expected a whole number from 0 to 16384"),
        ("num_experts_per_tok", json!(257), "257; expected a whole number from 1 to 256"),
        ("num_experts_per_tok", json!(0), "0; expected a whole number from 1 to 256"),
        ("moe_intermediate_size", json!([2048]), "[2048]; expected a whole number from 1"),
        ("intermediate_size", json!(0), "0; expected a whole number from 1"),
        ("n_group", json!(7), "7; expected a divisor of the 256 experts"),
        ("first_k_dense_replace", json!(62), "62; expected a whole number from 0 to 61"),
        ("moe_layer_freq", json!(0), "0; expected a whole number from 1 to 61"),
        ("moe_layer_freq", json!([0, 1]), "2 entries; expected 61 entries"),
        ("moe_layer_freq", json!(vec![2; 61]), "2; expected 0 (dense) or 1 (experts)"),
        ("mlp_only_layers", json!([61]), "61; expected layer numbers below 61"),
        ("mlp_only_layers", json!([u64::MAX]), "18446744073709551615; expected layer numbers"),
        ("n_shared_experts", json!(16_384), "16384 shared experts, 33554432 wide together"),
        ("num_attention_heads", json!(0), "0; expected a whole number from 1 to 4096"),
        ("kv_lora_rank", json!(0), "0; expected a whole number from 1 to 262144"),
        ("v_head_dim", json!(null), "nothing; expected a whole number from 1 to 16384"),
        ("vocab_size", json!(0), "0; expected a whole number from 1 to 16777216"),
        ("quantization_config", json!("fp8"), "\"fp8\"; expected an object"),
    ];
    for (key, value, answer) in cases {
        let text = refusal("deepseek-v3", key, value);
        assert!(text.starts_with(&format!("config.json: {key}: {answer}")), "{text}");
        assert!(!text.contains('\n'), "one line: {text}");
    }
}

#[test]
fn a_model_without_any_layer_of_experts_is_refused() {
    let text = refusal("deepseek-v3", "first_k_dense_replace", json!(61));
    assert!(text.contains("no layer with experts among 61; expected at least one"), "{text}");
}

#[test]
fn two_names_of_one_fact_must_agree() {
    let text = refusal("gpt-oss-120b", "experts_per_token", json!(8));
    assert_eq!(
        text,
        "config.json: experts_per_token: 8; expected 4, as `num_experts_per_tok` says"
    );
}

#[test]
fn heads_that_do_not_divide_are_refused() {
    let text = refusal("mixtral-8x7b", "num_key_value_heads", json!(5));
    assert!(text.contains("5; expected a divisor of num_attention_heads, 32"), "{text}");
    let text = refusal("mixtral-8x7b", "hidden_size", json!(4097));
    assert!(text.contains("head_dim: nothing, and hidden_size 4097 for 32 heads"), "{text}");
}

#[test]
fn a_window_whose_layers_nobody_states_is_refused() {
    // The original file of gpt-oss: every second layer has the window, and only its code says so.
    let text = refusal("gpt-oss-120b", "layer_types", Value::Null);
    assert!(text.contains("layer_types: nothing, and sliding_window 128"), "{text}");
    let shape = edited("mixtral-8x7b", [("sliding_window", json!(4096))]).unwrap();
    let Attention::Gqa { window, windowed_layers, .. } = shape.attention else { panic!("grouped") };
    assert_eq!((window, windowed_layers), (Some(4096), 32));
}

#[test]
fn files_that_are_no_configuration_are_refused() {
    for text in
        ["", "[]", "null", "7", "{", "{\"hidden_size\": 1, \"hidden_size\": 2}", "\u{feff}{}"]
    {
        let error = parse(text.as_bytes(), "config.json", "model", false).unwrap_err().to_string();
        assert!(error.starts_with("config.json: file: "), "{text}: {error}");
    }
    assert!(parse(b"{\"hidden_size\": \xff}", "config.json", "model", false).is_err());
    let nested = json!({"text_config": 7});
    assert!(read(&nested).unwrap_err().to_string().contains("text_config: 7; expected an object"));
    let long = vec![b' '; usize::try_from(FILE_BYTES_MAX).unwrap() + 1];
    let error = parse(&long, "config.json", "model", false).unwrap_err().to_string();
    assert!(error.contains("a larger file; expected a config.json of at most"), "{error}");
}

#[test]
fn a_file_that_cannot_be_read_is_named() {
    let error = read_config(&fixture("no-such-model")).unwrap_err();
    assert!(matches!(&error, Error::Read { path, .. } if path.contains("no-such-model")));
    assert!(matches!(read_config(Path::new(env!("CARGO_MANIFEST_DIR"))), Err(Error::Read { .. })));
}

#[test]
fn a_truncated_file_is_an_error() {
    for preset in configured() {
        let bytes = std::fs::read(fixture(preset.name())).unwrap();
        let end = bytes.iter().rposition(|byte| *byte == b'}').unwrap();
        for length in 0..=end {
            assert!(parse(&bytes[..length], "config.json", "model", false).is_err(), "{length}");
        }
    }
}

#[test]
fn a_flipped_bit_gives_an_error_or_a_valid_shape() {
    for preset in configured() {
        let mut bytes = std::fs::read(fixture(preset.name())).unwrap();
        for position in 0..bytes.len() * 8 {
            let (byte, mask) = (position / 8, 1 << (position % 8));
            bytes[byte] ^= mask;
            if let Ok(shape) = parse(&bytes, "config.json", "model", false) {
                shape.validate().unwrap();
            }
            bytes[byte] ^= mask;
        }
    }
}

/// A value that a hostile file may hold under any key.
fn any_value() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        (0_u64..300).prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        ".{0,200}".prop_map(Value::from),
        proptest::collection::vec(any::<u16>(), 0..100).prop_map(Value::from),
    ]
}

proptest! {
    #[test]
    fn any_values_under_any_keys_give_an_error_or_a_valid_shape(
        preset in 0..configured().len(),
        edits in proptest::collection::vec((any::<prop::sample::Index>(), any_value()), 1..6),
    ) {
        let mut value = fixture_value(configured()[preset].name());
        let keys: Vec<String> = value.as_object().unwrap().keys().cloned().collect();
        for (key, edit) in edits {
            value[key.get(&keys)] = edit;
        }
        if let Ok(shape) = read(&value) {
            prop_assert!(shape.validate().is_ok());
        }
    }
}
