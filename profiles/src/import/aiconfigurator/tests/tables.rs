//! What each table becomes.

use super::*;
use crate::sample::routing;

/// The samples of `engine` from one table beside a table of experts.
fn read_table(engine: &str, version: &str, place: &str, columns: &[(&str, Column)]) -> Samples {
    let folder = systems();
    put(folder.path(), &format!("moe/{engine}/{version}/moe_perf"), &moe(&[(3, 1, 0.1)]));
    put(folder.path(), place, columns);
    let mut samples = read(folder.path(), &options(engine, Some(version))).unwrap();
    if !place.ends_with("moe/moe_perf") {
        samples.samples.retain(|sample| sample.at != [101, 3]);
    }
    samples
}

fn counts<const N: usize>(values: [i64; N]) -> Column {
    Counts(values.to_vec())
}

fn texts<const N: usize>(values: [&str; N]) -> Column {
    Texts(values.map(str::to_owned).to_vec())
}

/// The family, variant, shape, work and time of a sample.
type Brief<'a> = (Family, &'a str, &'a [u32], &'a [u64], f64);

fn brief(samples: &Samples) -> Vec<Brief<'_>> {
    samples
        .samples
        .iter()
        .map(|s| (s.family, s.variant.as_str(), s.shape.as_slice(), s.at.as_slice(), s.time_us))
        .collect()
}

#[test]
fn experts_know_how_their_router_routed() {
    let shape = |version: &str, engine: &str, ep: i64| {
        let folder = systems();
        let place = format!("moe/{engine}/{version}/moe_perf");
        put(folder.path(), &place, &moe(&[(1, ep, 0.1)]));
        let samples = read(folder.path(), &options(engine, None)).unwrap();
        let sample = samples.samples[0].clone();
        assert_eq!(sample.family, Family::ExpertGemm);
        assert_eq!(sample.variant, "sglang_fused_moe_triton/fp8_block");
        assert_eq!(sample.at, [101, 1]);
        assert_eq!(sample.time_us, 100.0);
        sample.shape
    };
    let expected = |ep: u32, routing: u32| vec![7168, 2048, 8, 256, 1, ep, 3, routing];
    assert_eq!(shape("0.5.14", "sglang", 8), expected(8, routing::GROUPED));
    assert_eq!(shape("0.5.10", "sglang", 8), expected(8, routing::CLAMPED));
    assert_eq!(shape("0.5.10", "sglang", 1), expected(1, routing::PLAIN));
    assert_eq!(shape("0.24.0", "vllm", 8), expected(8, routing::GROUPED));
    assert_eq!(shape("0.19.0", "vllm", 8), expected(8, routing::PLAIN));
    assert_eq!(shape("1.3.0rc20", "trtllm", 8), expected(8, routing::PLAIN));
}

#[test]
fn experts_without_a_gate_have_two_matrices() {
    let columns = with(moe(&[(1, 1, 0.1)]), "hidden_size", counts([2688]));
    let columns = with(columns, "inter_size", counts([1856]));
    let samples = read_table("trtllm", "1.0.0", "moe/trtllm/1.0.0/moe_perf", &columns);
    assert_eq!(samples.samples[0].shape[6], 2);
    let source = texts(["moe_nongated"]);
    let columns = with(moe(&[(1, 1, 0.1)]), "kernel_source", source);
    let samples = read_table("trtllm", "1.0.0", "moe/trtllm/1.0.0/moe_perf", &columns);
    assert_eq!(samples.samples[0].shape[6], 2);
}

#[test]
fn wide_experts_are_told_apart_by_phase() {
    let columns = with(moe(&[(1, 1, 0.1)]), "distribution", texts(["uniform"]));
    let place = "moe/sglang/0.5.10/wideep_generation_moe_perf";
    let samples = read_table("sglang", "0.5.14", place, &columns);
    let shape: &[u32] = &[7168, 2048, 8, 256, 1, 1, 3, routing::EVEN];
    let variant = "sglang_fused_moe_triton-decode/fp8_block";
    assert_eq!(brief(&samples), [(Family::ExpertGemm, variant, shape, &[0, 1][..], 100.0)]);
    assert!(samples.flags[0].contains("0.5.10/wideep_generation"), "{:?}", samples.flags);
}

#[test]
fn attention_counts_the_new_token_and_may_lack_windows() {
    let columns = [
        ("kernel_source", texts(["fa3"])),
        ("batch_size", counts([4])),
        ("isl", counts([1])),
        ("num_heads", counts([32])),
        ("num_key_value_heads", counts([8])),
        ("head_dim", counts([128])),
        ("attn_dtype", texts(["bfloat16"])),
        ("kv_cache_dtype", texts(["fp8"])),
        ("step", counts([1023])),
        ("latency", Times(vec![0.02])),
    ];
    let place = "attention/sglang/0.5.14/generation_attention_perf";
    let samples = read_table("sglang", "0.5.14", place, &columns);
    let shape: &[u32] = &[32, 8, 128, 0];
    let expected = (Family::DecodeAttention, "fa3/bfloat16/fp8", shape, &[4, 1024][..], 20.0);
    assert_eq!(brief(&samples), [expected]);
    let mut columns = columns.to_vec();
    columns.push(("window_size", counts([4096])));
    let place = "attention/sglang/0.5.14/context_attention_perf";
    let samples = read_table("sglang", "0.5.14", place, &columns);
    let shape: &[u32] = &[32, 8, 128, 4096];
    let expected = (Family::PrefillAttention, "fa3/bfloat16/fp8", shape, &[4, 1][..], 20.0);
    assert_eq!(brief(&samples), [expected]);
}

#[test]
fn latent_attention_is_a_kernel_or_a_module() {
    let columns = vec![
        ("kernel_source", texts(["fa3"])),
        ("mla_dtype", texts(["fp8_block"])),
        ("kv_cache_dtype", texts(["fp8"])),
        ("gemm_type", texts(["bfloat16"])),
        ("num_heads", counts([16])),
        ("batch_size", counts([4])),
        ("isl", counts([512])),
        ("step", counts([63])),
        ("latency", Times(vec![0.05])),
    ];
    let cases = [
        ("context_mla_perf", Family::PrefillMla, "fa3/fp8_block/fp8", 512),
        ("generation_mla_perf", Family::DecodeMla, "fa3/fp8_block/fp8", 64),
        ("mla_context_module_perf", Family::PrefillMlaModule, "fa3/fp8_block/fp8/bfloat16", 512),
        ("mla_generation_module_perf", Family::DecodeMlaModule, "fa3/fp8_block/fp8/bfloat16", 63),
        (
            "wideep_generation_mla_perf",
            Family::DecodeMlaModule,
            "wideep-fa3/fp8_block/fp8/bfloat16",
            512,
        ),
    ];
    for (table, family, variant, last) in cases {
        let samples = read_table("vllm", "0.24.0", &format!("mla/vllm/0.24.0/{table}"), &columns);
        assert_eq!(brief(&samples), [(family, variant, &[16][..], &[4, last][..], 50.0)]);
    }
    let columns: Vec<_> = columns.into_iter().filter(|(name, _)| *name != "gemm_type").collect();
    let place = "mla/sglang/0.5.6.post2/wideep_context_mla_perf";
    let samples = read_table("sglang", "0.5.6.post2", place, &columns);
    assert_eq!(samples.samples[0].variant, "wideep-fa3/fp8_block/fp8/fp8_block");
}

#[test]
fn messages_are_counted_in_elements() {
    let columns = [
        ("nccl_dtype", texts(["half", "int8"])),
        ("num_gpus", counts([8, 8])),
        ("message_size", counts([512, 512])),
        ("op_name", texts(["all_gather", "alltoall"])),
        ("latency", Times(vec![0.02, 0.03])),
    ];
    let samples = read_table("vllm", "0.24.0", "comm/nccl/2.29.2/nccl_perf", &columns);
    let gather = (Family::AllGather, "nccl/half", &[8][..], &[1024][..], 20.0);
    assert_eq!(brief(&samples), [gather, (Family::AllToAll, "nccl/int8", &[8], &[512], 30.0)]);
    assert_eq!(samples.flags, [""; 0]);
    let columns = [
        ("kernel_source", texts(["vLLM_custom_graph", "vLLM_custom_eager", "TRTLLM"])),
        ("allreduce_dtype", texts(["bfloat16"; 3])),
        ("num_gpus", counts([8; 3])),
        ("message_size", counts([512; 3])),
        ("latency", Times(vec![0.01, 0.02, 0.03])),
    ];
    let samples = read_table("vllm", "0.24.0", "comm/vllm/0.24.0/custom_allreduce_perf", &columns);
    let variants: Vec<&str> = brief(&samples).iter().map(|sample| sample.1).collect();
    assert_eq!(variants, ["custom-eager/bfloat16", "custom-graph/bfloat16", "custom/bfloat16"]);
    assert!(samples.samples.iter().all(|sample| sample.at == [1024]));
}

/// DeepEP's normal kernels at 1 or 2 nodes, with one row of each number of nodes.
fn deepep(nodes: &[i64]) -> Vec<(&'static str, Column)> {
    let all = |value: i64| Counts(vec![value; nodes.len()]);
    let times = |value: f64| Times(vec![value; nodes.len()]);
    vec![
        ("kernel_source", Texts(vec!["deepep".to_owned(); nodes.len()])),
        ("node_num", Counts(nodes.to_vec())),
        ("hidden_size", all(7168)),
        ("num_token", all(128)),
        ("num_topk", all(8)),
        ("num_experts", all(256)),
        ("dispatch_sms", all(20)),
        ("dispatch_transmit_us", times(30.0)),
        ("dispatch_notify_us", times(5.0)),
        ("combine_sms", all(24)),
        ("combine_transmit_us", times(50.0)),
        ("combine_notify_us", times(0.0)),
    ]
}

#[test]
fn exchanges_across_nodes_come_from_the_version_that_has_them() {
    let folder = systems();
    put(folder.path(), "moe/sglang/0.5.14/moe_perf", &moe(&[(3, 1, 0.1)]));
    let place = |version: &str| format!("comm/sglang/{version}/wideep_deepep_normal_perf");
    put(folder.path(), &place("0.5.12"), &deepep(&[1]));
    put(folder.path(), &place("0.5.6.post2"), &deepep(&[1, 2]));
    let mut samples = read(folder.path(), &options("sglang", None)).unwrap();
    samples.samples.retain(|sample| sample.family != Family::ExpertGemm);
    let variant = "deepep-normal";
    let at: &[u64] = &[128];
    let expected: [Brief; 4] = [
        (Family::Combine, variant, &[1, 8, 7168, 8, 256, 24], at, 50.0),
        (Family::Combine, variant, &[2, 16, 7168, 8, 256, 24], at, 50.0),
        (Family::Dispatch, variant, &[1, 8, 7168, 8, 256, 20], at, 35.0),
        (Family::Dispatch, variant, &[2, 16, 7168, 8, 256, 20], at, 35.0),
    ];
    assert_eq!(brief(&samples), expected);
    let flags = samples.flags.join("\n");
    assert!(
        flags.contains("0.5.6.post2/wideep_deepep_normal_perf.parquet: rows across"),
        "{flags}"
    );
    assert!(flags.contains("one measurement for H100 and H200"), "{flags}");
}

#[test]
fn exchanges_of_engines_say_their_phase() {
    let columns = vec![
        ("comm_backend", texts(["deepep_ll", "deepep_ll"])),
        ("phase", texts(["dispatch", "combine"])),
        ("comm_dtype", texts(["fp8", "fp8"])),
        ("ep_size", counts([4, 4])),
        ("node_num", counts([1, 1])),
        ("hidden_size", counts([7168, 7168])),
        ("topk", counts([8, 8])),
        ("num_experts", counts([256, 256])),
        ("num_tokens", counts([16, 16])),
        ("sms", counts([0, 0])),
        ("latency", Times(vec![20.0, 30.0])),
    ];
    let samples = read_table("vllm", "0.24.0", "comm/vllm/0.24.0/moe_a2a_perf", &columns);
    let shape: &[u32] = &[1, 4, 7168, 8, 256, 0];
    let combine = (Family::Combine, "deepep_ll/fp8", shape, &[16][..], 30.0);
    assert_eq!(brief(&samples), [combine, (Family::Dispatch, "deepep_ll/fp8", shape, &[16], 20.0)]);
}
