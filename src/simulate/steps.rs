//! `steps.csv`: a row per simulated step.

use moecast_sim::record::StepRecord;

pub(super) fn steps_csv(steps: &[StepRecord]) -> Vec<u8> {
    let mut text = String::from(
        "step,tokens,time_ns,attention_ns,dense_ns,dispatch_ns,experts_ns,combine_ns,imbalance,\
         bytes_local,bytes_domain,bytes_network\n",
    );
    for record in steps {
        let parts = &record.parts;
        let [local, domain, network] = record.bytes;
        text += &format!(
            "{},{},{},{},{},{},{},{},{},{local},{domain},{network}\n",
            record.step,
            record.tokens,
            parts.total().0,
            parts.attention.0,
            parts.dense.0,
            parts.dispatch.0,
            parts.experts.0,
            parts.combine.0,
            record.imbalance,
        );
    }
    text.into_bytes()
}
