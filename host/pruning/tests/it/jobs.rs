//! The queue of jobs, with work that needs no model.

use std::error::Error;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use espalier_pruning::{
    Activity, EvaluateJob, Job, JobReporter, JobRequest, JobRunner, JobState, Jobs, Phase, Progress,
    PruneJob, PruningError, RecipeJob, RunProgress,
};
use espalier_state::{Digest, State};
use espalier_training::TrainingProgress;
use serde_json::{Value, json};

/// What the scripted runner does with a job, told by the request's `data`.
struct Scripted {
    /// Receives the name of each job that was begun.
    begun: Mutex<Sender<String>>,
    /// A job named `wait` reports until it gets this.
    release: Mutex<Receiver<()>>,
}

impl JobRunner for Scripted {
    fn run(&self, job: &Job, progress: &mut JobReporter<'_>) -> Result<Value, Box<dyn Error + Send + Sync>> {
        let name = match &job.request {
            JobRequest::Evaluate(job) => job.data.display().to_string(),
            JobRequest::Recipe(run) => run.recipe.clone(),
            other => return Err(format!("unexpected {}", other.kind()).into()),
        };
        self.begun.lock().unwrap().send(name.clone()).unwrap();
        match name.as_str() {
            "fail" => Err("the text is not there".into()),
            "panic" => panic!("a bug"),
            "wait" => loop {
                if !progress.report(Phase::Evaluate, 1, 2) {
                    return Err("stopped".into());
                }
                if self.release.lock().unwrap().recv_timeout(Duration::from_millis(2)).is_ok() {
                    return Ok(json!("released"));
                }
            },
            "train" => {
                progress.result(&json!({"stages": 1}), false);
                progress.stage(&training(1));
                progress.stage(&training(3));
                Err("a gate stopped the run".into())
            }
            "deaf" => {
                let _ = self.release.lock().unwrap().recv_timeout(Duration::from_secs(20));
                Err("stopped".into())
            }
            "killed" => {
                progress.result(&json!({"stages": 1}), true);
                loop {
                    if !progress.stage(&training(1)) {
                        return Err("stopped".into());
                    }
                    std::thread::sleep(Duration::from_millis(2));
                }
            }
            _ => {
                progress.report(Phase::Evaluate, 2, 2);
                Ok(json!({"figure": 1.5}))
            }
        }
    }
}

struct Fixture {
    directory: tempfile::TempDir,
    jobs: Jobs,
    begun: Receiver<String>,
    release: Sender<()>,
}

impl Fixture {
    fn new() -> Self {
        Self::in_directory(tempfile::tempdir().unwrap())
    }

    fn in_directory(directory: tempfile::TempDir) -> Self {
        let (begun_sender, begun) = channel();
        let (release, released) = channel();
        let runner = Scripted { begun: Mutex::new(begun_sender), release: Mutex::new(released) };
        let jobs = Jobs::start(State::open(directory.path()).unwrap(), Arc::new(runner)).unwrap();
        Self { directory, jobs, begun, release }
    }

    fn submit(&self, name: &str) -> u64 {
        self.jobs.submit(&evaluation(name)).unwrap().id
    }

    fn begun(&self) -> String {
        self.begun.recv_timeout(Duration::from_secs(10)).unwrap()
    }

    fn finished(&self, id: u64) -> Job {
        let deadline = Instant::now() + Duration::from_secs(10);
        loop {
            let job = self.jobs.get(id).unwrap();
            if job.state.is_final() {
                return job;
            }
            assert!(Instant::now() < deadline, "job {id} is {:?}", job.state);
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}

impl Drop for Fixture {
    fn drop(&mut self) {
        self.jobs.shutdown();
    }
}

fn evaluation(name: &str) -> JobRequest {
    JobRequest::Evaluate(EvaluateJob {
        model: "smollm2".to_owned(),
        variant: "original".to_owned(),
        baseline: None,
        data: name.into(),
        metrics: vec!["perplexity".to_owned()],
        max_tokens: None,
    })
}

#[test]
fn jobs_run_in_order_and_keep_their_results() {
    let fixture = Fixture::new();
    let ids: Vec<u64> = ["first", "second", "third"].iter().map(|name| fixture.submit(name)).collect();
    for (id, name) in ids.iter().zip(["first", "second", "third"]) {
        assert_eq!(fixture.begun(), name);
        let job = fixture.finished(*id);
        assert_eq!(job.state, JobState::Succeeded);
        assert_eq!(job.result, Some(json!({"figure": 1.5})));
        assert_eq!((job.phase, job.done, job.total), (Some(Phase::Evaluate), 2, 2));
        assert!(job.created_ms <= job.started_ms.unwrap() && job.started_ms <= job.finished_ms);
    }
    let listed: Vec<u64> = fixture.jobs.list(2).unwrap().iter().map(|job| job.id).collect();
    assert_eq!(listed, [ids[2], ids[1]]);
}

#[test]
fn a_failing_job_says_why_and_the_next_one_runs() {
    let fixture = Fixture::new();
    let failing = fixture.submit("fail");
    let panicking = fixture.submit("panic");
    let next = fixture.submit("fine");
    let failed = fixture.finished(failing);
    assert_eq!((failed.state, failed.error.as_deref()), (JobState::Failed, Some("the text is not there")));
    let panicked = fixture.finished(panicking);
    assert_eq!(panicked.state, JobState::Failed);
    assert!(panicked.error.unwrap().contains("internal error"));
    assert_eq!(fixture.finished(next).state, JobState::Succeeded);
}

#[test]
fn a_running_job_can_be_cancelled() {
    let fixture = Fixture::new();
    let id = fixture.submit("wait");
    fixture.begun();
    assert_eq!(fixture.jobs.cancel(id).unwrap().state, JobState::Running);
    let job = fixture.finished(id);
    assert_eq!((job.state, job.error), (JobState::Cancelled, None));
}

#[test]
fn a_queued_job_can_be_cancelled_and_never_begins() {
    let fixture = Fixture::new();
    let running = fixture.submit("wait");
    fixture.begun();
    let queued = fixture.submit("queued");
    let last = fixture.submit("last");
    assert_eq!(fixture.jobs.cancel(queued).unwrap().state, JobState::Cancelled);
    fixture.release.send(()).unwrap();
    assert_eq!(fixture.finished(running).result, Some(json!("released")));
    assert_eq!(fixture.begun(), "last");
    fixture.finished(last);
}

#[test]
fn only_what_exists_and_is_not_over_can_be_cancelled() {
    let fixture = Fixture::new();
    let id = fixture.submit("fine");
    fixture.finished(id);
    let error = fixture.jobs.cancel(id).unwrap_err().to_string();
    assert_eq!(error, "job 1 is succeeded and cannot be cancelled; expected a queued or running job");
    assert!(matches!(fixture.jobs.cancel(99).unwrap_err(), PruningError::JobNotFound { id: 99 }));
    assert!(matches!(fixture.jobs.get(99).unwrap_err(), PruningError::JobNotFound { id: 99 }));
}

#[test]
fn watchers_see_every_step() {
    let fixture = Fixture::new();
    let mut events = fixture.jobs.subscribe();
    let id = fixture.submit("fine");
    let mut seen = Vec::new();
    while seen.last().is_none_or(|(state, _, _): &(JobState, _, _)| !state.is_final()) {
        let event = events.blocking_recv().unwrap();
        assert_eq!(event.id, id);
        seen.push((event.state, event.phase, event.done));
    }
    assert_eq!(
        seen,
        [
            (JobState::Queued, None, 0),
            (JobState::Running, None, 0),
            (JobState::Running, Some(Phase::Evaluate), 2),
            (JobState::Succeeded, Some(Phase::Evaluate), 2),
        ]
    );
}

#[test]
fn a_stop_fails_the_running_job_and_keeps_the_queued_one() {
    let mut fixture = Fixture::new();
    let running = fixture.submit("wait");
    fixture.begun();
    let queued = fixture.submit("fine");
    fixture.jobs.shutdown();
    let job = fixture.jobs.get(running).unwrap();
    assert_eq!(job.error.as_deref(), Some("the host stopped while this job was running"));
    assert_eq!(fixture.jobs.get(queued).unwrap().state, JobState::Queued);

    let directory = std::mem::replace(&mut fixture.directory, tempfile::tempdir().unwrap());
    let restarted = Fixture::in_directory(directory);
    assert_eq!(restarted.begun(), "fine");
    assert_eq!(restarted.finished(queued).state, JobState::Succeeded);
}

#[test]
fn a_job_that_a_killed_host_left_running_is_failed_at_the_next_start() {
    let fixture = Fixture::new();
    let id = fixture.submit("wait");
    fixture.begun();
    // A second host on the same directory sees what a killed one would have left behind.
    let (begun, _) = channel();
    let (_, released) = channel();
    let runner = Scripted { begun: Mutex::new(begun), release: Mutex::new(released) };
    let next = Jobs::start(State::open(fixture.directory.path()).unwrap(), Arc::new(runner)).unwrap();
    let job = next.get(id).unwrap();
    assert_eq!(job.state, JobState::Failed);
    assert_eq!(job.error.as_deref(), Some("the host stopped while this job was running"));
    next.shutdown();
}

fn training(step: u64) -> RunProgress<'static> {
    let training = TrainingProgress {
        step,
        steps: 4,
        loss: 2.5,
        learning_rate: 0.1,
        gradient_norm: 1.0,
        tokens_per_second: 64.0,
        seconds_left: 7.5,
    };
    let (phase, total, training) = (Phase::Train, Some(4), Some(training));
    let activity = Activity { phase, what: "train", cut: None, done: step, total, training };
    RunProgress { number: 2, stages: 3, stage: "lora", activity }
}

fn recipe(name: &str) -> JobRequest {
    JobRequest::Recipe(Box::new(RecipeJob {
        model: "smollm2".to_owned(),
        variant: "original".to_owned(),
        path: "/models/smollm2".into(),
        recipe: name.to_owned(),
        source: "toml".to_owned(),
        toml: String::new(),
        recipe_sha256: Digest::of(b""),
        directory: "/".into(),
        calibration: Vec::new(),
        data: None,
        texts: Vec::new(),
        inputs_sha256: Digest::of(b""),
        components: Vec::new(),
        load_as: None,
    }))
}

#[test]
fn the_run_of_a_recipe_says_where_it_is_and_keeps_what_it_has_done_when_it_fails() {
    let fixture = Fixture::new();
    let mut events = fixture.jobs.subscribe();
    let id = fixture.jobs.submit(&recipe("train")).unwrap().id;
    let job = fixture.finished(id);
    assert_eq!((job.state, job.error.as_deref()), (JobState::Failed, Some("a gate stopped the run")));
    assert_eq!(job.result, Some(json!({"stages": 1})));
    let event = loop {
        let event = events.blocking_recv().unwrap();
        if event.done == 3 {
            break serde_json::to_value(event).unwrap();
        }
    };
    let stage = json!({
        "number": 2, "stages": 3, "name": "lora", "activity": "train", "loss": 2.5, "tokens_per_second": 64.0,
        "seconds_left": 7.5,
    });
    assert_eq!((&event["stage"], &event["phase"], &event["total"]), (&stage, &json!("train"), &json!(4)));
    let evaluated = fixture.submit("fine");
    assert_eq!(fixture.jobs.resume(id).unwrap().error, None);
    assert_eq!(fixture.finished(id).state, JobState::Failed);
    fixture.finished(evaluated);
    let refused = fixture.jobs.resume(evaluated).unwrap_err().to_string();
    assert!(refused.contains("is succeeded and cannot be taken up again"), "{refused}");
    let runs: Vec<u64> = fixture.jobs.recipe_runs(9).unwrap().iter().map(|job| job.id).collect();
    assert_eq!(runs, [id]);
}

#[test]
fn a_run_of_a_recipe_is_taken_up_again_by_the_next_host() {
    let mut fixture = Fixture::new();
    let id = fixture.jobs.submit(&recipe("killed")).unwrap().id;
    let next = fixture.submit("fine");
    fixture.begun();
    // A stop puts it back.
    fixture.jobs.shutdown();
    let job = fixture.jobs.get(id).unwrap();
    assert_eq!((job.state, &job.error), (JobState::Queued, &None));
    let began = job.started_ms;
    let directory = std::mem::replace(&mut fixture.directory, tempfile::tempdir().unwrap());
    let fixture = Fixture::in_directory(directory);
    assert_eq!(fixture.begun(), "killed", "it goes before what waited behind it");
    // A second host on the same directory sees what a killed one would have left behind.
    let state = State::open(fixture.directory.path()).unwrap();
    let (begun_sender, begun) = channel();
    let (_, released) = channel();
    let runner = Scripted { begun: Mutex::new(begun_sender), release: Mutex::new(released) };
    let other = Jobs::start(state, Arc::new(runner)).unwrap();
    assert_eq!(begun.recv_timeout(Duration::from_secs(10)).unwrap(), "killed");
    assert_eq!(other.get(id).unwrap().started_ms, began);
    assert_eq!(other.cancel(id).unwrap().state, JobState::Running);
    assert_eq!(begun.recv_timeout(Duration::from_secs(10)).unwrap(), "fine");
    let job = other.get(id).unwrap();
    assert_eq!((job.state, job.result), (JobState::Cancelled, Some(json!({"stages": 1}))));
    other.shutdown();
    assert_eq!(fixture.jobs.get(next).unwrap().state, JobState::Succeeded);
}

#[test]
fn a_cancelled_run_does_not_go_on_though_its_host_was_killed_before_it_ended() {
    let fixture = Fixture::new();
    let id = fixture.jobs.submit(&recipe("deaf")).unwrap().id;
    fixture.begun();
    assert_eq!(fixture.jobs.cancel(id).unwrap().state, JobState::Running);
    let state = State::open(fixture.directory.path()).unwrap();
    let (begun, _) = channel();
    let (_, released) = channel();
    let runner = Scripted { begun: Mutex::new(begun), release: Mutex::new(released) };
    let next = Jobs::start(state, Arc::new(runner)).unwrap();
    assert_eq!(next.get(id).unwrap().state, JobState::Cancelled);
    next.shutdown();
    fixture.release.send(()).unwrap();
}

#[test]
fn a_run_that_ends_its_host_each_time_is_given_up() {
    let directory = tempfile::tempdir().unwrap();
    let state = State::open(directory.path()).unwrap();
    let start = || {
        let (begun_sender, begun) = channel();
        let (release, released) = channel();
        let runner = Scripted { begun: Mutex::new(begun_sender), release: Mutex::new(released) };
        (Jobs::start(state.clone(), Arc::new(runner)).unwrap(), begun, release)
    };
    // Hosts that are never shut down: each leaves the run as a killed one does.
    let (first, begun, _release) = start();
    let id = first.submit(&recipe("wait")).unwrap().id;
    begun.recv_timeout(Duration::from_secs(10)).unwrap();
    let mut hosts = vec![(first, begun, _release)];
    loop {
        let (jobs, begun, release) = start();
        let given_up = begun.recv_timeout(Duration::from_millis(500)).is_err();
        hosts.push((jobs, begun, release));
        if given_up {
            break;
        }
        assert!(hosts.len() < 40, "it is taken up again and again");
    }
    let (jobs, ..) = hosts.last().unwrap();
    let job = jobs.get(id).unwrap();
    assert_eq!(job.state, JobState::Failed);
    assert!(
        job.error.as_deref().is_some_and(|error| error.contains("ended 20 times at the same stage")),
        "{job:?}"
    );
    for (_, _, release) in &hosts {
        let _ = release.send(());
    }
    for (jobs, ..) in &hosts {
        jobs.shutdown();
    }
}

#[test]
fn jobs_are_counted_by_kind_and_state() {
    let fixture = Fixture::new();
    let failing = fixture.submit("fail");
    let fine = fixture.submit("fine");
    fixture.finished(failing);
    fixture.finished(fine);
    let counts: Vec<_> =
        fixture.jobs.counts().unwrap().into_iter().map(|c| (c.kind, c.state, c.count)).collect();
    let evaluate = || "evaluate".to_owned();
    assert_eq!(counts, [(evaluate(), JobState::Failed, 1), (evaluate(), JobState::Succeeded, 1)]);
}

#[test]
fn a_request_is_short_and_strict() {
    let short = json!({
        "kind": "prune", "model": "smollm2", "policy": "activation-norm", "units": ["head", "ffn-channel"],
        "keep": 0.75, "calibration": "train.txt", "out": "smaller"
    });
    let JobRequest::Prune(job) = serde_json::from_value(short.clone()).unwrap() else { panic!("kind") };
    let expected = PruneJob { calibration: vec!["train.txt".into()], ..job.clone() };
    assert_eq!(job, expected);
    assert_eq!((job.variant.as_str(), job.windows, job.window_tokens, job.seed), ("original", 128, 512, 0));

    let refusal = |field: &str, value: Value| {
        let mut request = short.clone();
        request[field] = value;
        serde_json::from_value::<JobRequest>(request).unwrap_err().to_string()
    };
    assert!(refusal("keeps", json!(0.5)).contains("unknown field `keeps`"));
    assert!(refusal("units", json!(["heads"])).contains("unknown variant `heads`"));
    assert!(refusal("calibration", json!(7)).contains("a path or a list of paths"));
    assert!(refusal("dtype", json!("q4_1")).contains("unknown variant `q4_1`"));
}
