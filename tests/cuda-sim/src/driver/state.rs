//! What the driver knows: memory, modules, streams, events, graphs, and the work that waits.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::ffi::c_void;
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};

use super::module::Module;
use super::status::{ILLEGAL_ADDRESS, INVALID_HANDLE, LAUNCH_FAILED, MISALIGNED_ADDRESS, SUCCESS, Status};
use crate::machine::{Cause, Grid, Memory, Order, launch};
use crate::program::Kernel;

/// Something that a stream is to do.
#[derive(Clone)]
pub(crate) enum Work {
    /// Between addresses of devices or of the host.
    Copy {
        to: u64,
        from: u64,
        bytes: usize,
    },
    /// Bytes that were taken from the host when the copy was asked for.
    Write {
        to: u64,
        bytes: Vec<u8>,
    },
    Fill {
        to: u64,
        pattern: Vec<u8>,
        count: usize,
    },
    Launch {
        kernel: Arc<Kernel>,
        parameters: Vec<u8>,
        grid: Grid,
    },
    Record {
        event: u64,
        ticket: u64,
    },
    Wait {
        event: u64,
        ticket: u64,
    },
    Call {
        function: extern "C" fn(*mut c_void),
        argument: usize,
    },
}

#[derive(Default)]
pub(crate) struct Stream {
    pub(crate) queue: VecDeque<Work>,
    /// The stream where the capture that it takes part in began.
    pub(crate) capture: Option<u64>,
    pub(crate) blocking: bool,
}

#[derive(Default)]
pub(crate) struct Event {
    pub(crate) asked: u64,
    pub(crate) done: u64,
    pub(crate) time: Option<std::time::Instant>,
    /// The stream of the capture in which it was recorded.
    pub(crate) capture: Option<u64>,
}

pub(crate) struct Function {
    pub(crate) kernel: Arc<Kernel>,
    pub(crate) largest_shared: usize,
}

pub(crate) struct Driver {
    pub(crate) memory: Memory,
    pub(crate) modules: HashMap<u64, Module>,
    pub(crate) functions: HashMap<u64, Function>,
    pub(crate) streams: BTreeMap<u64, Stream>,
    pub(crate) events: HashMap<u64, Event>,
    pub(crate) graphs: HashMap<u64, Vec<Work>>,
    pub(crate) captures: HashMap<u64, Vec<Work>>,
    pub(crate) error: Status,
    order: Order,
    next: u64,
}

static DRIVER: LazyLock<Mutex<Driver>> = LazyLock::new(|| {
    Mutex::new(Driver {
        memory: Memory::default(),
        modules: HashMap::new(),
        functions: HashMap::new(),
        streams: BTreeMap::from([(0, Stream { blocking: true, ..Stream::default() })]),
        events: HashMap::new(),
        graphs: HashMap::new(),
        captures: HashMap::new(),
        error: SUCCESS,
        order: Order::new(setting("CUDA_SIM_SEED", 0)),
        next: 0x1000,
    })
});

/// A number from the environment.
pub(crate) fn setting(name: &str, otherwise: u64) -> u64 {
    std::env::var(name).ok().and_then(|value| value.parse().ok()).unwrap_or(otherwise)
}

/// The one driver of the process.
pub(crate) fn driver() -> MutexGuard<'static, Driver> {
    DRIVER.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Driver {
    pub(crate) fn handle(&mut self) -> u64 {
        self.next += 16;
        self.next
    }

    /// Queues work, or adds it to the graph that the stream captures.
    pub(crate) fn submit(&mut self, stream: u64, work: Work) -> Status {
        if self.error != SUCCESS {
            return self.error;
        }
        let Some(found) = self.streams.get(&stream) else { return INVALID_HANDLE };
        if let Some(origin) = found.capture {
            self.captures.entry(origin).or_default().push(work);
            return SUCCESS;
        }
        // The default stream and those that block wait for each other.
        if found.blocking {
            let others: Vec<u64> = self
                .streams
                .iter()
                .filter(|(id, other)| **id != stream && other.blocking && (stream == 0 || **id == 0))
                .map(|(&id, _)| id)
                .collect();
            for other in others {
                self.drain(Some(other));
            }
        }
        if let Some(found) = self.streams.get_mut(&stream) {
            found.queue.push_back(work);
        }
        self.error
    }

    /// Runs queued work until a stream, or every one, has none left.
    pub(crate) fn drain(&mut self, until: Option<u64>) -> Status {
        loop {
            let done = match until {
                Some(id) => self.streams.get(&id).is_none_or(|stream| stream.queue.is_empty()),
                None => self.streams.values().all(|stream| stream.queue.is_empty()),
            };
            if done || self.error != SUCCESS {
                return self.error;
            }
            if !self.advance() {
                // Only waits for events that were never recorded are left; such a wait is over at once.
                return self.error;
            }
        }
    }

    /// Runs queued work until an event has come.
    pub(crate) fn drain_event(&mut self, event: u64) -> Status {
        while self.error == SUCCESS && self.events.get(&event).is_some_and(|event| event.done < event.asked) {
            if !self.advance() {
                break;
            }
        }
        self.error
    }

    fn advance(&mut self) -> bool {
        let ready: Vec<u64> = self
            .streams
            .iter()
            .filter(|(_, stream)| match stream.queue.front() {
                Some(Work::Wait { event, ticket }) => {
                    self.events.get(event).is_none_or(|event| event.done >= *ticket)
                }
                head => head.is_some(),
            })
            .map(|(&id, _)| id)
            .collect();
        if ready.is_empty() {
            return false;
        }
        let chosen = ready[self.order.below(ready.len())];
        let work = self.streams.get_mut(&chosen).and_then(|stream| stream.queue.pop_front());
        if let Some(work) = work {
            self.perform(work);
        }
        true
    }

    pub(crate) fn perform(&mut self, work: Work) {
        let done = match work {
            Work::Copy { to, from, bytes } => self.copy(to, from, bytes),
            Work::Write { to, bytes } => self.memory.write(to, &bytes),
            Work::Fill { to, pattern, count } => self.memory.write(to, &pattern.repeat(count)),
            Work::Launch { kernel, parameters, grid } => {
                let done = launch(&kernel, &self.memory, &parameters, grid, &mut self.order);
                if let Err(fault) = done {
                    eprintln!("cuda-sim: {fault}");
                    self.error = status(&fault.cause);
                }
                Ok(())
            }
            Work::Record { event, ticket } => {
                if let Some(event) = self.events.get_mut(&event) {
                    event.done = event.done.max(ticket);
                    event.time = Some(std::time::Instant::now());
                }
                Ok(())
            }
            Work::Wait { .. } => Ok(()),
            Work::Call { function, argument } => {
                function(std::ptr::with_exposed_provenance_mut(argument));
                Ok(())
            }
        };
        if let Err(cause) = done {
            eprintln!("cuda-sim: copy or fill: {cause}");
            self.error = status(&cause);
        }
    }

    fn copy(&mut self, to: u64, from: u64, bytes: usize) -> Result<(), Cause> {
        let mut buffer = vec![0; bytes];
        if self.memory.find(from).is_some() {
            self.memory.read(from, &mut buffer)?;
        } else {
            // SAFETY: no device address, so it is the host's, which the caller of the driver says is valid.
            unsafe { crate::machine::raw_read(from, &mut buffer) };
        }
        if self.memory.find(to).is_some() {
            self.memory.write(to, &buffer)?;
        } else {
            // SAFETY: as above.
            unsafe { crate::machine::raw_write(to, &buffer) };
        }
        Ok(())
    }
}

fn status(cause: &Cause) -> Status {
    match cause {
        cause if cause.is_address() => ILLEGAL_ADDRESS,
        Cause::Misaligned { .. } => MISALIGNED_ADDRESS,
        _ => LAUNCH_FAILED,
    }
}
