//! One line for every request.

use std::fmt::Write as _;

use moecast_profiles::units::{Nanos, SimTime};
use moecast_sim::serving::record::RequestRecord;

/// The requests of a run as CSV, in the order in which they were finished.
pub(crate) struct Csv {
    text: String,
    /// Whether ranks can be lost, and requests sent back.
    retries: bool,
}

impl Csv {
    pub(crate) fn new(retries: bool) -> Self {
        let header = "id,replica,arrival_ms,queue_ms,ttft_ms,tpot_ms,end_to_end_ms,input_tokens,\
                      output_tokens,cached_tokens,preemptions";
        let more = if retries { ",retries\n" } else { "\n" };
        Self { text: format!("{header}{more}"), retries }
    }

    pub(crate) fn add(&mut self, record: &RequestRecord) {
        let ms = |time: Nanos| time.0 as f64 / 1e6;
        let tpot = record.tpot_ns().map_or_else(String::new, |tpot| format!("{:.6}", tpot / 1e6));
        let _ = write!(
            self.text,
            "{},{},{:.6},{:.6},{:.6},{tpot},{:.6},{},{},{},{}",
            record.id,
            record.replica,
            ms(record.arrival.since(SimTime(0))),
            ms(record.queue()),
            ms(record.ttft()),
            ms(record.end_to_end()),
            record.input_tokens,
            record.output_tokens,
            record.cached_tokens,
            record.preemptions
        );
        if self.retries {
            let _ = write!(self.text, ",{}", record.retries);
        }
        self.text.push('\n');
    }

    pub(crate) fn into_bytes(self) -> Vec<u8> {
        self.text.into_bytes()
    }
}
