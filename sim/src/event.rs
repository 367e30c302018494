//! stub
#![allow(missing_docs)]
use moecast_profiles::units::SimTime;
use std::collections::BinaryHeap;
use std::cmp::Reverse;
pub struct EventQueue<E> { heap: BinaryHeap<Reverse<(SimTime,u16,u64,usize)>>, slab: Vec<Option<E>>, free: Vec<usize>, seq: u64 }
impl<E> EventQueue<E> {
    pub fn new() -> Self { Self { heap: BinaryHeap::new(), slab: Vec::new(), free: Vec::new(), seq: 0 } }
    pub fn push(&mut self, t: SimTime, rank: u16, e: E) { let i = if let Some(i)=self.free.pop() { self.slab[i]=Some(e); i } else { self.slab.push(Some(e)); self.slab.len()-1 }; self.heap.push(Reverse((t,rank,self.seq,i))); self.seq+=1; }
    pub fn pop(&mut self) -> Option<(SimTime,E)> { let Reverse((t,_,_,i)) = self.heap.pop()?; let e=self.slab[i].take(); self.free.push(i); e.map(|e|(t,e)) }
}
