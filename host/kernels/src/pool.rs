//! The thread pool: one job at a time, cut into small pieces that the caller and the workers take by an atomic counter.
//!
//! The caller always takes part and does whatever the workers have not started, so a worker that the system has
//! descheduled costs at most its one unfinished piece. Waiting spins for some tens of microseconds, because the next
//! job of a forward pass usually follows at once, and then parks: on a shared machine a spinning thread would take
//! the very time that the thread it waits for needs.
//!
//! A call from inside a piece, or while another thread's job holds the pool, runs on the calling thread alone.
//! A panic in a piece stops the job and continues on the caller after every worker has let go of it.

use std::any::Any;
use std::cell::UnsafeCell;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle, Thread};
use std::time::{Duration, Instant};

use crate::KernelError;

/// How long a thread spins before it parks.
const SPIN: Duration = Duration::from_micros(40);

/// How long a worker runs before it offers its core to others. The system takes the core away after some milliseconds if
/// another process wants it, mostly in the middle of a piece, for which everybody then waits; between jobs it costs
/// nobody anything.
const STINT: Duration = Duration::from_millis(1);

/// Set in `Shared::entry` while workers may enter the job.
const OPEN: u32 = 1 << 31;
/// Set in `Shared::entry` when the caller sleeps until the last worker has left.
const CALLER_SLEEPS: u32 = 1 << 30;
/// The remaining bits count the workers inside.
const INSIDE: u32 = CALLER_SLEEPS - 1;

/// A job's closure, with the lifetime erased: valid exactly while a worker is counted in `Shared::entry`.
#[derive(Copy, Clone)]
struct Job {
    run: *const (dyn Fn(usize) + Sync),
    pieces: usize,
}

/// Kept on cache lines of its own, since every thread writes it.
#[repr(align(128))]
struct OwnLine<T>(T);

struct Shared {
    /// Held by the thread whose job runs.
    busy: AtomicBool,
    job: UnsafeCell<Option<Job>>,
    /// The next piece that nobody has taken.
    next: OwnLine<AtomicUsize>,
    /// `OPEN`, `CALLER_SLEEPS` and the number of workers inside the job.
    entry: OwnLine<AtomicU32>,
    /// Counts jobs; workers wait for it to change.
    epoch: OwnLine<AtomicU32>,
    stop: AtomicBool,
    panic: Mutex<Option<Box<dyn Any + Send>>>,
    left: Mutex<()>,
    left_signal: Condvar,
    /// Per worker, whether it has parked (or is about to).
    parked: Vec<AtomicBool>,
}

// SAFETY: `job` is the only field that is not `Sync` by itself. It is written only by the holder of `busy` while
// `entry` is closed and empty, and read only by workers counted in `entry`; the acquire/release pairs on `entry`
// order the two.
unsafe impl Sync for Shared {}
// SAFETY: as above; the raw pointer in `job` refers to a `Sync` closure.
unsafe impl Send for Shared {}

/// Threads that share jobs. Dropping it ends the workers.
pub(crate) struct Pool {
    shared: Arc<Shared>,
    workers: Vec<(Thread, Option<JoinHandle<()>>)>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A panic never happens while these locks are held, and their data stays meaningful if one did.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Spins until `done` or until the spinning time is over; says whether it is done.
fn spin_until(done: impl Fn() -> bool) -> bool {
    let mut end = None;
    loop {
        for _ in 0..32 {
            if done() {
                return true;
            }
            std::hint::spin_loop();
        }
        let now = Instant::now();
        if now >= *end.get_or_insert(now + SPIN) {
            return done();
        }
    }
}

impl Pool {
    /// A pool of `threads` threads, the caller included.
    pub(crate) fn new(threads: usize) -> Result<Self, KernelError> {
        let count = threads.saturating_sub(1);
        let shared = Arc::new(Shared {
            busy: AtomicBool::new(false),
            job: UnsafeCell::new(None),
            next: OwnLine(AtomicUsize::new(0)),
            entry: OwnLine(AtomicU32::new(0)),
            epoch: OwnLine(AtomicU32::new(0)),
            stop: AtomicBool::new(false),
            panic: Mutex::new(None),
            left: Mutex::new(()),
            left_signal: Condvar::new(),
            parked: (0..count).map(|_| AtomicBool::new(false)).collect(),
        });
        let mut pool = Self { shared, workers: Vec::with_capacity(count) };
        for index in 0..count {
            let shared = Arc::clone(&pool.shared);
            let handle = thread::Builder::new()
                .name(format!("kernel-{}", index + 1))
                .spawn(move || shared.work(index))
                .map_err(|source| KernelError::Thread { index: index + 1, source })?;
            pool.workers.push((handle.thread().clone(), Some(handle)));
        }
        Ok(pool)
    }

    /// Threads that take part in a job, the caller included.
    pub(crate) fn threads(&self) -> usize {
        self.workers.len() + 1
    }

    /// Calls `run(0)`, …, `run(pieces − 1)`, each once, in any order and on any of the threads, and returns when all
    /// have returned.
    pub(crate) fn run(&self, pieces: usize, run: &(dyn Fn(usize) + Sync)) {
        if pieces <= 1 || self.workers.is_empty() || self.shared.busy.swap(true, Ordering::Acquire) {
            return (0..pieces).for_each(run);
        }
        let shared = &*self.shared;
        // SAFETY: only the lifetime changes. Workers use the pointer only while counted in `entry`, and this function
        // does not return or unwind before it has closed the entry and seen that count reach 0.
        let run: &'static (dyn Fn(usize) + Sync) = unsafe { std::mem::transmute(run) };
        // SAFETY: this thread holds `busy`, the entry is closed and nobody is inside (the previous job waited for it).
        unsafe { *shared.job.get() = Some(Job { run, pieces }) };
        shared.next.0.store(0, Ordering::Relaxed);
        shared.entry.0.store(OPEN, Ordering::Release);
        shared.epoch.0.fetch_add(1, Ordering::SeqCst);
        for ((thread, _), parked) in self.workers.iter().zip(&shared.parked) {
            if parked.load(Ordering::SeqCst) && parked.swap(false, Ordering::SeqCst) {
                thread.unpark();
            }
        }
        shared.take_pieces(Job { run, pieces });
        shared.wait_until_left();
        // SAFETY: as for the write above; clearing it keeps no dangling pointer about.
        unsafe { *shared.job.get() = None };
        let panic = lock(&shared.panic).take();
        shared.busy.store(false, Ordering::Release);
        if let Some(payload) = panic {
            resume_unwind(payload);
        }
    }
}

impl Shared {
    /// Takes pieces until none is left. A panic is kept for the caller and ends the job.
    fn take_pieces(&self, job: Job) {
        loop {
            let piece = self.next.0.fetch_add(1, Ordering::Relaxed);
            if piece >= job.pieces {
                return;
            }
            // SAFETY: the caller is either `run` itself or a worker counted in `entry`, so the closure is alive.
            let run = unsafe { &*job.run };
            if let Err(payload) = catch_unwind(AssertUnwindSafe(|| run(piece))) {
                self.next.0.store(job.pieces, Ordering::Relaxed);
                lock(&self.panic).get_or_insert(payload);
                return;
            }
        }
    }

    /// Closes the job to workers and waits until those inside have left.
    fn wait_until_left(&self) {
        let entry = &self.entry.0;
        entry.fetch_and(!OPEN, Ordering::AcqRel);
        if spin_until(|| entry.load(Ordering::Acquire) & INSIDE == 0) {
            return;
        }
        let mut guard = lock(&self.left);
        if entry.fetch_or(CALLER_SLEEPS, Ordering::AcqRel) & INSIDE != 0 {
            while entry.load(Ordering::Acquire) & INSIDE != 0 {
                guard = self.left_signal.wait(guard).unwrap_or_else(PoisonError::into_inner);
            }
        }
        entry.store(0, Ordering::Relaxed);
    }

    /// The life of worker `index`.
    fn work(&self, index: usize) {
        let mut seen = 0;
        let mut begin = Instant::now();
        loop {
            if begin.elapsed() >= STINT {
                thread::yield_now();
                begin = Instant::now();
            }
            let changed = || self.epoch.0.load(Ordering::SeqCst) != seen;
            if !spin_until(changed) {
                let Some(parked) = self.parked.get(index) else { return };
                // Said anew before each sleep: a caller that was slow to wake this worker for a job that is over clears
                // the flag and wakes it for nothing, and nobody would wake it from a sleep that it had not announced.
                loop {
                    parked.store(true, Ordering::SeqCst);
                    if changed() {
                        break;
                    }
                    thread::park();
                }
                parked.store(false, Ordering::SeqCst);
                begin = Instant::now();
            }
            seen = self.epoch.0.load(Ordering::SeqCst);
            if self.stop.load(Ordering::Acquire) {
                return;
            }
            self.join_job();
        }
    }

    /// Takes part in the open job, if there is one.
    fn join_job(&self) {
        let entry = &self.entry.0;
        let enter = |state: u32| (state & OPEN != 0).then_some(state + 1);
        if entry.fetch_update(Ordering::AcqRel, Ordering::Relaxed, enter).is_err() {
            return;
        }
        // SAFETY: this worker is counted in `entry` of an open job, so the job was written before (acquire above)
        // and is not written again until the worker has left.
        if let Some(job) = unsafe { *self.job.get() } {
            self.take_pieces(job);
        }
        let before = entry.fetch_sub(1, Ordering::AcqRel);
        if before & CALLER_SLEEPS != 0 && before & INSIDE == 1 {
            // Taking the lock orders this signal after the caller's decision to sleep.
            drop(lock(&self.left));
            self.left_signal.notify_all();
        }
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Release);
        self.shared.epoch.0.fetch_add(1, Ordering::SeqCst);
        for (thread, handle) in &mut self.workers {
            thread.unpark();
            if let Some(handle) = handle.take() {
                // A worker catches the panics of its pieces; there is nothing to learn from its result.
                drop(handle.join());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(pool: &Pool, pieces: usize) -> Vec<usize> {
        let hits: Vec<AtomicUsize> = (0..pieces).map(|_| AtomicUsize::new(0)).collect();
        pool.run(pieces, &|piece| {
            hits[piece].fetch_add(1, Ordering::Relaxed);
        });
        hits.into_iter().map(AtomicUsize::into_inner).collect()
    }

    #[test]
    fn every_piece_runs_once() {
        for threads in [0, 1, 2, 3, 8] {
            let pool = Pool::new(threads).unwrap();
            for pieces in [0, 1, 2, 3, 100] {
                assert_eq!(counts(&pool, pieces), vec![1; pieces]);
            }
        }
    }

    #[test]
    fn many_small_jobs_and_pauses() {
        let pool = Pool::new(4).unwrap();
        for round in 0..20_000 {
            assert_eq!(counts(&pool, 5), [1; 5]);
            if round % 1000 == 0 {
                // Long enough for the workers to park.
                thread::sleep(Duration::from_millis(1));
            }
        }
    }

    #[test]
    fn a_worker_that_is_woken_late_for_a_job_that_is_over_takes_part_in_the_next() {
        let pool = Pool::new(2).unwrap();
        let (worker, parked) = (&pool.workers[0].0, &pool.shared.parked[0]);
        let is_parked = || parked.load(Ordering::SeqCst);
        let wait_until_parked = || {
            while !is_parked() {
                thread::yield_now()
            }
        };
        wait_until_parked();
        // What a caller does that lost its core between announcing a job and waking the workers for it.
        assert!(parked.swap(false, Ordering::SeqCst));
        worker.unpark();
        thread::sleep(Duration::from_millis(20));
        let arrived = AtomicUsize::new(0);
        pool.run(2, &|_| {
            arrived.fetch_add(1, Ordering::SeqCst);
            let begun = Instant::now();
            // Neither piece ends before both have begun, on two threads.
            while arrived.load(Ordering::SeqCst) < 2 {
                assert!(begun.elapsed() < Duration::from_secs(20), "the worker sleeps on");
                thread::yield_now();
            }
        });
    }

    #[test]
    fn slow_pieces_put_the_caller_to_sleep() {
        let pool = Pool::new(3).unwrap();
        for _ in 0..20 {
            pool.run(3, &|piece| thread::sleep(Duration::from_millis(piece as u64)));
        }
    }

    #[test]
    fn nested_and_concurrent_jobs_finish() {
        let pool = Pool::new(3).unwrap();
        let total = AtomicUsize::new(0);
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..200 {
                        pool.run(8, &|_| {
                            pool.run(4, &|_| {
                                total.fetch_add(1, Ordering::Relaxed);
                            });
                        });
                    }
                });
            }
        });
        assert_eq!(total.into_inner(), 4 * 200 * 8 * 4);
    }

    #[test]
    fn a_panic_reaches_the_caller_and_the_pool_lives_on() {
        let pool = Pool::new(4).unwrap();
        for bad in 0..16 {
            let result = catch_unwind(AssertUnwindSafe(|| {
                pool.run(16, &|piece| assert_ne!(piece, bad, "piece {bad}"));
            }));
            let message = *result.unwrap_err().downcast::<String>().unwrap();
            assert!(message.contains(&format!("piece {bad}")));
            assert_eq!(counts(&pool, 9), [1; 9]);
        }
    }
}
