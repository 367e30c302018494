//! Decode attention: one new token a request, keys and values of its context in bf16.

use super::super::Point;
use super::kernels::{Attention, Pattern};
use super::layout::{HEAD, Rotation, head_group, splits};
use super::{Cuda, HOLD_KERNELS, OrFail, Timing, to_i32, to_usize, unsupported};

/// Sizes of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Job {
    heads: usize,
    kv_heads: usize,
    batch: usize,
    context: usize,
    group: usize,
}

impl Job {
    fn of(point: &Point) -> Timing<Self> {
        let [heads, kv_heads, head_dim, window] = point.shape[..] else {
            return Err(unsupported(format!("{} fields of shape", point.shape.len())));
        };
        let (heads, kv_heads) = (heads as usize, kv_heads as usize);
        let group = head_group(heads, kv_heads)
            .filter(|_| head_dim as usize == HEAD && window == 0)
            .ok_or_else(|| unsupported(format!("heads of {head_dim}, window {window}")))?;
        let (batch, context) = (to_usize(point.at[0])?, to_usize(point.at[1])?);
        if batch == 0 || context == 0 {
            return Err(unsupported("no tokens to attend to".to_owned()));
        }
        Ok(Self { heads, kv_heads, batch, context, group })
    }

    /// Words (two numbers) of all keys, and as many of values.
    fn cache_words(&self) -> usize {
        self.batch * self.kv_heads * self.context * HEAD / 2
    }
}

impl Cuda {
    /// Attention of `at[0]` requests of `at[1]` tokens each.
    pub(super) fn time_attention(&mut self, point: &Point, repeats: usize) -> Timing<Vec<f64>> {
        let job = Job::of(point)?;
        let Job { heads, kv_heads, batch, context, group } = job;
        let rotation = Rotation::new(2 * 4 * job.cache_words(), self.device.l2_bytes);
        let (device, cache) = self.with_random(Pattern::Bf16, &rotation)?;
        let rows = batch * heads;
        let splits = splits(context, rows / group, device.processors as usize);
        device.room_for(4 * rows * (splits * (HEAD + 2) + HEAD))?;
        let stream = &device.stream;
        let floats = |count: usize| stream.alloc_zeros::<f32>(count).or_fail("a buffer");
        let (mut partial, mut state) = (floats(rows * splits * HEAD)?, floats(rows * splits * 2)?);
        let mut out = stream.alloc_zeros::<u32>(rows * HEAD / 2).or_fail("a buffer")?;
        let queries = device.random_bytes(2 * rows * HEAD, Pattern::Bf16)?;
        let shape = [to_i32(batch)?, to_i32(heads)?, to_i32(kv_heads)?, to_i32(context)?];
        device.timed(repeats, HOLD_KERNELS, |repeat| {
            let start = rotation.offset(repeat) / 4;
            let keys = cache.slice(start..start + job.cache_words());
            let values = cache.slice(start + job.cache_words()..start + 2 * job.cache_words());
            let step =
                Attention { queries: &queries, keys: &keys, values: &values, shape, group, splits };
            let scratch = [&mut partial, &mut state];
            device.kernels.attention(stream, &step, scratch, &mut out).or_fail("attention")
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::measure::{Kind, plan_for};
    use crate::sample::Family;

    #[test]
    fn the_kernels_take_every_attention_point_of_the_plan() {
        for mut point in plan_for(&Kind::Cuda).points {
            if point.family == Family::DecodeAttention {
                let job = Job::of(&point).unwrap();
                assert_eq!(job.heads / job.kv_heads % job.group, 0, "{point}");
                point.shape[2] = 64;
                assert!(Job::of(&point).is_err(), "{point}");
            }
        }
    }
}
