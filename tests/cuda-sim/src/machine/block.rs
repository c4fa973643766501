//! A launch: its blocks one after the other in a seeded order, the warps of a block in turns of seeded length.

use super::fault::{Cause, Fault, Stop};
use super::memory::Memory;
use super::shared::{Shared, Times};
use super::warp::{Surroundings, Warp, lanes_of};
use crate::program::{BarrierReduction, Kernel, Operation, WARP};

/// What a launch says beside its arguments.
#[derive(Clone, Copy, Debug)]
pub struct Grid {
    /// Blocks by axis.
    pub blocks: [u32; 3],
    /// Threads of a block by axis.
    pub threads: [u32; 3],
    /// Shared memory beyond the kernel's own.
    pub dynamic_shared: usize,
}

/// Numbers that only look random, so that a run can be repeated.
#[derive(Clone, Debug)]
pub struct Order(u64);

impl Order {
    /// Begins with a seed.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// A number below `limit`, by SplitMix64.
    pub fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ mixed >> 31) % limit.max(1) as u64) as usize
    }
}

/// Steps of one block after which it is taken to be in a loop without an end.
const ENDLESS: u64 = 1 << 33;

/// Runs a kernel to its end or to its first fault.
pub fn launch(
    kernel: &Kernel,
    memory: &Memory,
    parameters: &[u8],
    grid: Grid,
    order: &mut Order,
) -> Result<(), Box<Fault>> {
    let total: usize = grid.blocks.iter().map(|&blocks| blocks as usize).product();
    let shared_bytes = kernel.shared_bytes + grid.dynamic_shared;
    let mut shared = Shared::new(shared_bytes);
    // A step that has no divisor in common with the number of blocks visits each once.
    let (start, stride) = (order.below(total), coprime(total, order.below(total)));
    for turn in 0..total {
        let number = (start + turn * stride) % total;
        let [x, y, _] = grid.blocks.map(|blocks| blocks as usize);
        let block = [number % x, number / x % y, number / x / y].map(|axis| axis as u32);
        let around = Surroundings {
            kernel,
            memory,
            parameters,
            shared: &mut shared,
            threads: grid.threads,
            blocks: grid.blocks,
            block,
            shared_bytes,
            arrivals: Vec::new(),
            count: 0,
        };
        Block::new(around).run(order)?;
    }
    Ok(())
}

fn coprime(total: usize, from: usize) -> usize {
    fn divisor(a: usize, b: usize) -> usize {
        if b == 0 { a } else { divisor(b, a % b) }
    }
    (from.max(1)..).find(|&step| divisor(step, total) == 1).unwrap_or(1)
}

/// A barrier that some threads have come to.
#[derive(Clone)]
struct Barrier {
    arrived: u64,
    needed: u64,
    votes: u64,
    warps: u32,
    times: Times,
}

const CLOSED: Barrier = Barrier { arrived: 0, needed: 0, votes: 0, warps: 0, times: [0; WARP] };

struct Block<'a> {
    around: Surroundings<'a>,
    warps: Vec<Warp>,
    barriers: Vec<Barrier>,
}

impl<'a> Block<'a> {
    fn new(around: Surroundings<'a>) -> Self {
        let count = around.threads.iter().product::<u32>().div_ceil(WARP as u32) as usize;
        let now = around.shared.begin();
        let mut block = Self { around, warps: Vec::new(), barriers: vec![CLOSED; 16] };
        for index in 0..count {
            let mut warp = Warp::new(index, &block.around, now);
            warp.times = [now - 1; WARP];
            warp.times[index] = now;
            block.warps.push(warp);
        }
        block
    }

    fn run(mut self, order: &mut Order) -> Result<(), Box<Fault>> {
        loop {
            let mut moved = false;
            let count = self.warps.len();
            let (start, stride) = (order.below(count), coprime(count, order.below(count)));
            for turn in 0..count {
                let index = (start + turn * stride) % count;
                if self.warps[index].ready() == 0 {
                    continue;
                }
                moved = true;
                let (budget, pick) =
                    (64 + order.below(1024) as u32, if order.below(4) == 0 { order.below(32) } else { 0 });
                let done = self.warps[index].run(&mut self.around, budget, pick);
                done.map_err(|stop| self.fault(index, stop))?;
                if self.warps[index].ready() == 0
                    && let Some(stop) = self.warps[index].stuck(&self.around)
                {
                    return Err(self.fault(index, stop));
                }
                self.open_barriers();
            }
            if !moved {
                return self.ended();
            }
            if self.around.count > ENDLESS {
                let steps = self.around.count;
                let step = self.warps[0].place[0];
                return Err(self.fault(0, Stop { lane: 0, step, cause: Cause::Endless { steps } }));
            }
        }
    }

    fn open_barriers(&mut self) {
        let all = u64::from(self.around.threads.iter().product::<u32>());
        for arrival in std::mem::take(&mut self.around.arrivals) {
            let warp = &self.warps[arrival.warp];
            let barrier = &mut self.barriers[arrival.id];
            // A count of threads is rounded up to warps, of which the last may not be full.
            barrier.needed = arrival.threads.map_or(all, |threads| threads.min(all));
            barrier.arrived += u64::from(arrival.lanes.count_ones());
            barrier.votes += u64::from(arrival.votes.count_ones());
            barrier.warps |= 1 << arrival.warp;
            for (time, &seen) in barrier.times.iter_mut().zip(&warp.times) {
                *time = (*time).max(seen);
            }
            if !arrival.waits {
                // Its later accesses are not covered by this barrier.
                let now = self.around.shared.tick();
                self.warps[arrival.warp].times[arrival.warp] = now;
            }
            if self.barriers[arrival.id].arrived >= self.barriers[arrival.id].needed {
                self.open(arrival.id);
            }
        }
    }

    fn open(&mut self, id: usize) {
        let barrier = std::mem::replace(&mut self.barriers[id], CLOSED);
        let now = self.around.shared.tick();
        for warp in &mut self.warps {
            let lanes = lanes_of(warp.stopped)
                .filter(|&lane| warp.barrier[lane] == id)
                .fold(0, |mask, lane| mask | 1 << lane);
            if lanes == 0 {
                continue;
            }
            for (seen, &time) in warp.times.iter_mut().zip(&barrier.times) {
                *seen = (*seen).max(time);
            }
            warp.times[warp.index] = now;
            warp.stopped &= !lanes;
            for lane in lanes_of(lanes) {
                let step = &self.around.kernel.steps[warp.place[lane]];
                if let Operation::BarrierReduce { reduction, to, .. } = step.operation {
                    let result = match reduction {
                        BarrierReduction::And => u64::from(barrier.votes == barrier.needed),
                        BarrierReduction::Or => u64::from(barrier.votes != 0),
                        BarrierReduction::Count => barrier.votes,
                    };
                    warp.set(to, lane, result);
                }
                warp.place[lane] += 1;
            }
        }
    }

    /// No lane can go on: the block is done, or some wait for what never comes.
    fn ended(&self) -> Result<(), Box<Fault>> {
        let Some(warp) = self.warps.iter().find(|warp| warp.stopped != 0) else { return Ok(()) };
        let lane = warp.stopped.trailing_zeros() as usize;
        let id = warp.barrier[lane];
        let barrier = &self.barriers[id];
        let exited: u32 = self.warps.iter().map(|warp| warp.exited.count_ones()).sum();
        let elsewhere: u32 = self
            .warps
            .iter()
            .map(|warp| lanes_of(warp.stopped).filter(|&lane| warp.barrier[lane] != id).count() as u32)
            .sum();
        let state = format!(
            "{} of {} threads are there, {exited} have exited, {elsewhere} wait at other barriers",
            barrier.arrived, barrier.needed
        );
        Err(self
            .fault(warp.index, Stop { lane, step: warp.place[lane], cause: Cause::Barrier { id, state } }))
    }

    fn fault(&self, warp: usize, stop: Stop) -> Box<Fault> {
        let kernel = self.around.kernel;
        let instruction = kernel.steps[stop.step].instruction as usize;
        Box::new(Fault {
            kernel: kernel.name.clone(),
            block: self.around.block,
            thread: self.around.thread(warp, stop.lane),
            instruction: kernel.instructions.get(instruction).cloned().unwrap_or_default(),
            cause: stop.cause,
        })
    }
}
