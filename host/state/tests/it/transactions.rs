use espalier_state::{Revision, State, StateError, advance_revision, current_revision};

const STEPS: [&str; 2] = ["CREATE TABLE things (name TEXT)", "ALTER TABLE things ADD COLUMN size INTEGER"];

fn count(state: &State) -> i64 {
    state
        .with_connection(|c| {
            Ok::<_, StateError>(c.query_row("SELECT count(*) FROM things", [], |r| r.get(0))?)
        })
        .unwrap()
}

#[test]
fn migrations_run_once_and_in_order() {
    let directory = tempfile::tempdir().unwrap();
    let state = State::open(directory.path()).unwrap();
    state.migrate("things", &STEPS[..1]).unwrap();
    state.migrate("things", &STEPS).unwrap();
    state.migrate("things", &STEPS).unwrap();
    let error = state.migrate("things", &STEPS[..1]).unwrap_err();
    assert!(matches!(error, StateError::TooNew { found: 2, known: 1, .. }), "{error}");
}

#[test]
fn a_failing_migration_leaves_nothing_behind() {
    let directory = tempfile::tempdir().unwrap();
    let state = State::open(directory.path()).unwrap();
    state.migrate("things", &[STEPS[0], "NOT SQL"]).unwrap_err();
    state.migrate("things", &STEPS).unwrap();
    assert_eq!(count(&state), 0);
}

#[test]
fn an_error_undoes_the_whole_change() {
    let directory = tempfile::tempdir().unwrap();
    let state = State::open(directory.path()).unwrap();
    state.migrate("things", &STEPS).unwrap();
    let refused = state.write(|transaction| {
        transaction.execute("INSERT INTO things (name) VALUES ('a')", [])?;
        advance_revision(transaction, "things", Some(Revision(7)))?;
        Ok::<_, StateError>(())
    });
    assert_eq!(refused.unwrap_err().to_string(), "things is at revision 0, not at the expected revision 7");
    assert_eq!(count(&state), 0);
}

#[test]
fn of_two_changes_decided_on_one_revision_one_wins() {
    let directory = tempfile::tempdir().unwrap();
    let states = [State::open(directory.path()).unwrap(), State::open(directory.path()).unwrap()];
    let change = |state: &State| state.write(|t| advance_revision(t, "slot/router", Some(Revision(0))));
    let wins = std::thread::scope(|scope| {
        let threads = states.each_ref().map(|state| scope.spawn(move || change(state)));
        threads.map(|thread| thread.join().unwrap()).iter().filter(|outcome| outcome.is_ok()).count()
    });
    assert_eq!(wins, 1);
    let revision = states[0].with_connection(|c| current_revision(c, "slot/router")).unwrap();
    assert_eq!(revision, Revision(1));
}
