use super::*;

const MLP: &str = "\
time_stats.attn_pre_proj.median,time_stats.attn_post_proj.median,time_stats.mlp_up_proj.median,\
time_stats.mlp_down_proj.median,time_stats.add.median,n_head,n_kv_head,n_embd,n_expanded_embd,\
vocab_size,use_gated_mlp,num_tokens,num_tensor_parallel_workers
0.5,0.4,2.5,1.25,0.06,64,8,8192,28672,32768,True,1024,2
0.3,0.2,1.5,0.75,0.06,64,8,8192,28672,32768,True,512,2
";

const ATTENTION: &str = "\
n_embd,n_q_head,n_kv_head,num_tensor_parallel_workers,block_size,max_model_len,batch_size,\
prefill_chunk_size,kv_cache_size,is_prefill,attention_backend,time_stats.attn_prefill.median,\
time_stats.attn_decode.median
8192,64,8,2,16,4096,1,512,0,True,AttentionBackend.FLASHINFER,0.25,
8192,64,8,2,16,4096,1,512,64,True,AttentionBackend.FLASHINFER,0.27,
8192,64,8,2,16,4096,16,0,1023,False,AttentionBackend.FLASHINFER,,0.02
";

const ALL_REDUCE: &str = "\
,time_stats.all_reduce.median,rank,num_workers,size,collective,devices_per_node,max_devices_per_node
0,0.037,0,8,2048,all_reduce,8,8
1,0.040,0,8,4096,all_reduce,8,8
2,0.400,0,16,4096,all_reduce,8,8
";

fn read_as(files: &[(&str, &str)]) -> Result<Samples> {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in files {
        let path = folder.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
    read(folder.path(), &Options::default())
}

fn fails(name: &str, text: &str, part: &str) {
    let error = read_as(&[(name, text)]).unwrap_err().to_string();
    assert!(error.contains(part), "{error}");
    assert!(!error.contains('\n'));
}

#[test]
fn projections_become_products_of_one_rank() {
    let samples = read_as(&[("compute/h100_sxm/meta/llama/mlp.csv", MLP)]).unwrap();
    assert_eq!(samples.provenance.system, "h100-sxm");
    assert_eq!(samples.samples.len(), 8);
    let find = |shape: &[u32]| {
        let found = samples.samples.iter().find(|s| s.shape == shape && s.at == [1024]);
        found.map(|sample| sample.time_us)
    };
    // 64 + 2 x 8 heads of 128 over two ranks; two matrices of 28672 over two ranks.
    assert_eq!(find(&[5120, 8192]), Some(500.0));
    assert_eq!(find(&[8192, 4096]), Some(400.0));
    assert_eq!(find(&[28672, 8192]), Some(2500.0));
    assert_eq!(find(&[8192, 14336]), Some(1250.0));
    assert!(samples.flags[0].contains("2 times of other operators"), "{:?}", samples.flags);
}

#[test]
fn attention_and_collectives_are_mapped() {
    let samples = read_as(&[("attention.csv", ATTENTION), ("all_reduce.csv", ALL_REDUCE)]).unwrap();
    let expected = [
        timed(Family::AllReduce, "nccl/float16", &[8], &[2048], 37.0),
        timed(Family::AllReduce, "nccl/float16", &[8], &[4096], 40.0),
        timed(
            Family::DecodeAttention,
            "flashinfer/float16/float16",
            &[32, 4, 128, 0],
            &[16, 1024],
            20.0,
        ),
        timed(
            Family::PrefillAttention,
            "flashinfer/float16/float16",
            &[32, 4, 128, 0],
            &[1, 512],
            250.0,
        ),
    ];
    assert_eq!(samples.samples, expected);
    let flags = samples.flags.join("\n");
    assert!(flags.contains("1 rows across nodes or of others"), "{flags}");
    assert!(flags.contains("1 rows of prefill on top of a cache"), "{flags}");
}

#[test]
fn two_gpus_are_not_one() {
    let files = [("compute/a40/m/n/mlp.csv", MLP), ("network/h100/all_reduce.csv", ALL_REDUCE)];
    let error = read_as(&files).unwrap_err().to_string();
    assert!(error.contains("profiles of a40, h100"), "{error}");
}

#[test]
fn wrong_rows_are_located() {
    fails("mlp.csv", &MLP.replace("0.3,", "nan,"), "line 3, time_stats.attn_pre_proj.median: nan");
    fails("mlp.csv", &MLP.replace("0.3,", "0,"), "line 3, time_stats.attn_pre_proj.median: 0");
    // Microseconds where milliseconds stand everywhere else.
    fails("mlp.csv", &MLP.replace("0.3,", "0.0003,"), "times in one unit");
    fails("mlp.csv", &MLP.replace("num_tokens", "tokens"), "num_tokens: no such column");
    fails("mlp.csv", &MLP.replace("512,2", "512"), "line 3, row: 12 fields");
    fails("mlp.csv", &MLP.replace("512,2", "512,0"), "over 0 ranks");
    fails("mlp.csv", &MLP.replace("512,2", "512,3"), "a whole share");
    fails("mlp.csv", &MLP.replace("28672", "18446744073709551615"), "line 2, shape");
    fails("attention.csv", &ATTENTION.replace("True", "yes"), "True or False");
    fails("all_reduce.csv", &ALL_REDUCE.replace(",8,8\n", ",1,8\n"), "none that can be mapped");
}

#[test]
fn a_cut_off_file_is_no_panic() {
    for (name, text) in [("mlp.csv", MLP), ("attention.csv", ATTENTION)] {
        for end in 1..text.len() {
            if let Ok(samples) = read_as(&[(name, &text[..end])]) {
                assert!(samples.samples.len() <= 8);
            }
        }
    }
}
