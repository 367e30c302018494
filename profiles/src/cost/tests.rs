use proptest::prelude::*;

use super::*;
use crate::builtin;
use crate::model::Attention;
use crate::units::{Bandwidth, Flops};

/// Experts of 3 x 1000 x 1000 values in 16 bits: 6 MB each.
fn model() -> ModelShape {
    ModelShape {
        hidden: 1000,
        expert_inter: 1000,
        shared_inter: 500,
        ..builtin::model("mixtral-8x7b").unwrap()
    }
}

/// After the assumed efficiencies of 80% and 70%: 1 TB/s and 70 TFLOP/s.
fn device() -> Device {
    let mut device = builtin::device("h200-sxm").unwrap();
    device.memory_bandwidth.value = Bandwidth(1_250_000_000_000);
    device.flops_bf16.value = Flops(100_000_000_000_000);
    device
}

fn build_for(entry: &Entry, model: &ModelShape, device: &Device) -> Arc<dyn CostModel> {
    static PROFILE: std::sync::OnceLock<Profile> = std::sync::OnceLock::new();
    let profile = PROFILE.get_or_init(|| builtin::profile("h200-sxm-sglang").unwrap());
    (entry.build)(&Setting {
        model,
        device,
        tensor_ranks: 1,
        expert_tensor_ranks: 1,
        expert_ranks: 8,
        exchange: None,
        profile: Some(profile),
    })
    .unwrap()
}

fn build(name: &str) -> Arc<dyn CostModel> {
    build_for(find(name).unwrap(), &model(), &device())
}

/// One request in decode, or many prompts' tokens that look at `attended` in sum.
fn batch(tokens: u32, attended: u64, cached: u64) -> AttentionBatch {
    let work = Attended { requests: tokens, tokens, attended, cached };
    AttentionBatch { decode: work, prefill: Attended::default() }
}

#[test]
fn nothing_to_do_costs_nothing() {
    for entry in ALL {
        let cost = build_for(entry, &model(), &device());
        assert_eq!(cost.experts(1, &[]), Nanos(0), "{}", entry.name);
        assert_eq!(cost.experts(1, &[0, 0, 0]), Nanos(0), "{}", entry.name);
        assert_eq!(cost.shared_experts(0), Nanos(0), "{}", entry.name);
        assert_eq!(cost.dense_layer(0), Nanos(0), "{}", entry.name);
        assert_eq!(cost.attention(AttentionBatch::default()), Nanos(0), "{}", entry.name);
        assert_eq!(cost.gate(0), Nanos(0), "{}", entry.name);
        assert_eq!(cost.head(0), Nanos(0), "{}", entry.name);
        assert_eq!(cost.all_reduce(0), Nanos(0), "{}", entry.name);
    }
}

#[test]
fn the_fixed_model_takes_10_us_for_any_work() {
    let cost = build("fixed");
    assert_eq!(cost.experts(1, &[0, 1]), Nanos(10_000));
    assert_eq!(cost.experts(1, &[4096; 64]), Nanos(10_000));
    assert_eq!(cost.gate(1), Nanos(10_000));
    assert_eq!(cost.attention(batch(1, 8192, 8192)), Nanos(10_000));
}

#[test]
fn one_row_takes_as_long_as_reading_its_expert() {
    // 6,000,000 bytes of weights and 3 x 1000 + 5 x 1000 of activations at 1 TB/s are 6008 ns.
    // A tile of 16 rows x 6,000,000 operations at 70 TFLOP/s is 1372 ns and hides behind it.
    assert_eq!(build("roofline").experts(1, &[1]), Nanos(4_000 + 6_008));
}

#[test]
fn many_rows_take_as_long_as_computing_them() {
    // 16,000 rows x 6,000,000 operations at 70 TFLOP/s are 1,371,428.6 ns, rounded up; the
    // 6 MB of weights and 128 MB of activations at 1 TB/s are 134,000 ns and hide behind it.
    assert_eq!(build("roofline").experts(1, &[16_000]), Nanos(4_000 + 1_371_429));
}

#[test]
fn the_same_rows_over_more_experts_read_more_weights() {
    // 16 rows carry 128,000 bytes of activations; each active expert adds 6,000,000.
    let cost = build("roofline");
    assert_eq!(cost.experts(1, &[16, 0]), Nanos(4_000 + 6_128));
    assert_eq!(cost.experts(1, &[8, 8]), Nanos(4_000 + 12_128));
}

#[test]
fn a_tile_that_is_not_full_costs_as_much_as_a_full_one() {
    // 1024 and 1010 rows are both 64 tiles of 16: 1024 x 6,000,000 operations at 70 TFLOP/s.
    let cost = build("roofline");
    assert_eq!(cost.experts(1, &[1_024]), Nanos(4_000 + 87_772));
    assert_eq!(cost.experts(1, &[1_010]), cost.experts(1, &[1_024]));
}

#[test]
fn shared_experts_read_three_matrices_and_the_rows() {
    // 3 x 1000 x 500 values are 3,000,000 bytes; 10 rows x 2 x (2 x 1000 + 3 x 500) are 70,000.
    assert_eq!(build("roofline").shared_experts(10), Nanos(4_000 + 3_070));
    let without = ModelShape { shared_inter: 0, ..model() };
    let cost = build_for(find("roofline").unwrap(), &without, &device());
    assert_eq!(cost.shared_experts(10), Nanos(0));
}

#[test]
fn decode_attention_reads_the_projections_and_the_cache() {
    // 32 query and 8 key heads of 125 values: 1000 x 125 x 80 = 10,000,000 parameters, 20 MB.
    // A token's cache is 2 x 2 x 8 x 125 = 4,000 bytes: 1,000 tokens are 4 MB.
    let (window, windowed_layers) = (None, 0);
    let attention =
        Attention::Gqa { heads: 32, kv_heads: 8, head_dim: 125, window, windowed_layers };
    let cost =
        build_for(find("roofline").unwrap(), &ModelShape { attention, ..model() }, &device());
    assert_eq!(cost.attention(batch(1, 1_000, 1_000)), Nanos(4_000 + 20_000 + 4_000 + 4_000));
}

#[test]
fn names_are_alphabetical_and_described() {
    assert!(ALL.windows(2).all(|pair| pair[0].name < pair[1].name));
    assert!(ALL.iter().all(|entry| !entry.about.is_empty() && !entry.about.contains('\n')));
    let answer = find("rooflin").map(|entry| entry.name).unwrap_err().to_string();
    assert!(answer.contains("did you mean `roofline`?"), "{answer}");
}

/// The times of all kernels over the same work.
fn kernels(cost: &dyn CostModel, slots: &[u32], tokens: u32, context: u64) -> [Nanos; 7] {
    let attended = u64::from(tokens) * context;
    [
        cost.experts(u64::from(tokens), slots),
        cost.shared_experts(tokens),
        cost.dense_layer(tokens),
        cost.attention(batch(tokens, attended, context)),
        cost.gate(tokens),
        cost.head(tokens),
        cost.all_reduce(tokens),
    ]
}

proptest! {
    #[test]
    fn more_work_never_takes_less_time(
        mut slots in proptest::collection::vec(0_u32..5_000, 1..64),
        slot in any::<prop::sample::Index>(),
        more in 1_u32..2_000,
        tokens in 0_u32..100_000,
        context in 0_u64..1_000_000,
        preset in 0..builtin::MODELS.len(),
    ) {
        let shape = builtin::model(builtin::MODELS[preset].name).unwrap();
        for entry in ALL.iter().filter(|entry| entry.name != "calibrated") {
            let cost = build_for(entry, &shape, &device());
            let before = kernels(cost.as_ref(), &slots, tokens, context);
            let position = slot.index(slots.len());
            slots[position] += more;
            let after = kernels(cost.as_ref(), &slots, tokens + more, context);
            for (before, after) in before.into_iter().zip(after) {
                prop_assert!(after >= before, "{}: {before} then {after}", entry.name);
            }
        }
    }

    #[test]
    fn a_device_twice_as_fast_is_never_slower(
        slots in proptest::collection::vec(0_u32..5_000, 0..64),
        tokens in 0_u32..100_000,
        context in 0_u64..1_000_000,
        preset in 0..builtin::MODELS.len(),
        hardware in 0..builtin::HARDWARE.len(),
    ) {
        let shape = builtin::model(builtin::MODELS[preset].name).unwrap();
        let device = builtin::device(builtin::HARDWARE[hardware].name).unwrap();
        let mut fast = device.clone();
        fast.memory_bandwidth.value.0 *= 2;
        fast.flops_bf16.value.0 *= 2;
        fast.flops_fp8.value.0 *= 2;
        for entry in ALL.iter().filter(|entry| entry.name != "calibrated") {
            let slow = build_for(entry, &shape, &device);
            let fast = build_for(entry, &shape, &fast);
            let slow = kernels(slow.as_ref(), &slots, tokens, context);
            let fast = kernels(fast.as_ref(), &slots, tokens, context);
            for (slow, fast) in slow.into_iter().zip(fast) {
                prop_assert!(fast <= slow, "{}: {slow} became {fast}", entry.name);
            }
        }
    }
}

/// Measured kernels do get faster with more work here and there: a library picks another kernel.
/// Between neighbours of the measured range that is never by half.
#[test]
fn more_work_never_halves_a_measured_time() {
    for preset in builtin::MODELS {
        let shape = builtin::model(preset.name).unwrap();
        let cost = build_for(find("calibrated").unwrap(), &shape, &device());
        let mut before = [Nanos(0); 7];
        for tokens in [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16_384] {
            let after = kernels(cost.as_ref(), &[tokens; 8], tokens, 1_000);
            for (before, after) in before.iter().zip(after) {
                assert!(after.0 * 2 >= before.0, "{}: {before} then {after}", preset.name);
            }
            before = after;
        }
    }
}

#[test]
fn every_kernel_of_a_calibrated_model_says_how_it_is_known() {
    let shape = builtin::model("deepseek-v3").unwrap();
    let known = build_for(find("calibrated").unwrap(), &shape, &device()).known();
    let measured = known.iter().filter(|known| known.source < Source::Assumed);
    assert!(measured.clone().any(|known| known.kernel == "experts"), "{known:?}");
    assert!(measured.clone().count() >= 5, "{known:?}");
    assert!(known.iter().all(|known| known.error > 0.0 && known.error < 0.5), "{known:?}");
}

#[test]
fn calibrated_without_a_profile_says_what_is_missing() {
    let (model, device) = (model(), device());
    let setting = Setting {
        model: &model,
        device: &device,
        tensor_ranks: 1,
        expert_tensor_ranks: 1,
        expert_ranks: 8,
        exchange: None,
        profile: None,
    };
    let error = (find("calibrated").unwrap().build)(&setting).err().unwrap().to_string();
    assert!(error.contains("no profile of h200-sxm") && !error.contains('\n'), "{error}");
}

/// Eight ranks of a model hold an eighth of its attention each, and reduce twice a layer.
#[test]
fn tensor_parallel_ranks_share_the_work_and_pay_for_it() {
    let (shape, device) = (builtin::model("qwen3-235b-a22b").unwrap(), device());
    let profile = builtin::profile("h200-sxm-sglang").unwrap();
    let build = |entry: &Entry, tensor_ranks| {
        let setting = Setting {
            model: &shape,
            device: &device,
            tensor_ranks,
            expert_tensor_ranks: tensor_ranks,
            expert_ranks: 1,
            exchange: None,
            profile: Some(&profile),
        };
        Kernels::new(entry, &setting).unwrap().model
    };
    for name in ["calibrated", "roofline"] {
        let (one, four) = (build(find(name).unwrap(), 1), build(find(name).unwrap(), 4));
        let prompts = Attended { requests: 4, tokens: 8192, attended: 8_390_656, cached: 8192 };
        let batch = AttentionBatch { decode: Attended::default(), prefill: prompts };
        let ratio = one.attention(batch).0 as f64 / four.attention(batch).0 as f64;
        assert!(ratio > 2.0 && ratio < 4.5, "{name}: attention {ratio}");
        let rows = [512_u32; 128];
        let ratio = one.experts(8192, &rows).0 as f64 / four.experts(8192, &rows).0 as f64;
        // Measured: the kernel of the undivided width has no tuned configuration on this GPU.
        assert!(ratio > 1.8 && ratio < 8.0, "{name}: experts {ratio}");
        assert_eq!(one.all_reduce(64), Nanos(0), "{name}");
        assert!(four.all_reduce(8192) > four.all_reduce(64), "{name}");
    }
    assert!(shape.sharded(7).is_err());
}

/// Drafted tokens are checked by more queries a request over one reading of its cache.
#[test]
fn more_queries_a_request_cost_at_most_as_many_requests() {
    let shape = builtin::model("deepseek-v3").unwrap();
    for name in ["calibrated", "roofline"] {
        let cost = build_for(find(name).unwrap(), &shape, &builtin::device("h200-sxm").unwrap());
        let time = |requests: u32, queries: u32| {
            let cached = u64::from(requests) * 4096;
            let attended = cached * u64::from(queries);
            let decode = Attended { requests, tokens: requests * queries, attended, cached };
            cost.attention(AttentionBatch { decode, prefill: Attended::default() })
        };
        for requests in [8, 64] {
            let [one, two, twice] = [time(requests, 1), time(requests, 2), time(2 * requests, 1)];
            assert!(one <= two && two <= twice, "{name}, {requests}: {one} {two} {twice}");
        }
    }
}

/// vLLM's table of block-scaled products was measured launch by launch: 82 us a product however
/// small. A decode pass in a captured graph does not wait for that.
#[test]
fn launches_of_uncaptured_tables_are_left_out_and_said() {
    let (shape, device) = (builtin::model("deepseek-v3").unwrap(), device());
    let profile = builtin::profile("h200-sxm-vllm").unwrap();
    let setting = Setting {
        model: &shape,
        device: &device,
        tensor_ranks: 8,
        expert_tensor_ranks: 8,
        expert_ranks: 1,
        exchange: None,
        profile: Some(&profile),
    };
    let cost = Kernels::new(find("calibrated").unwrap(), &setting).unwrap().model;
    let dense = cost.dense_layer(1);
    assert!(dense < Nanos(40_000), "a dense layer of one token takes {dense}");
    let known = cost.known();
    let left_out = |kernel: &str| {
        let known = known.iter().find(|known| known.kernel == kernel).unwrap();
        known.by.contains("launches left out")
    };
    assert!(left_out("dense layers") && left_out("decode"), "{known:?}");
    // A table of the same variant, whose start is kept.
    assert!(!left_out("prefill"), "{known:?}");
}
