//! The scripts of a real Redis as a store whose time the test holds: each batch is one call, decided by the batch's own `now`.

use std::sync::Mutex;

use ratekeeper::limiter::Outcome;
use ratekeeper::store::redis::call::{Call, Decision, Reply};
use ratekeeper::store::redis::script::{Dialect, Script};
use ratekeeper::store::{Batch, Step, Store};
use redis::{Cmd, Connection, Value};

/// A store on one connection.
pub struct ScriptStore(Mutex<Connection>);

impl std::fmt::Debug for ScriptStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ScriptStore")
    }
}

impl ScriptStore {
    /// A store on an empty server.
    pub fn new(mut connection: Connection) -> Self {
        let () = redis::cmd("FLUSHALL").query(&mut connection).unwrap();
        for script in Script::all() {
            let _: String = redis::cmd("SCRIPT")
                .arg("LOAD")
                .arg(script.text(Dialect::Plain))
                .query(&mut connection)
                .unwrap();
        }
        Self(connection.into())
    }
}

impl Store for ScriptStore {
    fn decide<'a>(&'a self, batch: &'a mut Batch) -> Step<'a> {
        let (mut call, mut command) = (Call::new(), Cmd::new());
        call.set_now(batch.now);
        call.push(&batch.keys, &batch.charges, batch.prior, 0).unwrap();
        if batch.charges.is_empty() {
            batch.outcome = Outcome::default();
            return Step::Done;
        }
        call.write_to(call.script(), Dialect::Plain, &mut command);
        let value: Value = command.query(&mut self.0.lock().unwrap()).unwrap();
        let mut reply = Reply::default();
        call.decode(&value, &mut reply).unwrap();
        let Some(Decision::Decided { verdicts, outcome }) = call.decision(&reply, 0) else {
            panic!("the script did not decide: {value:?}");
        };
        batch.verdicts.extend_from_slice(verdicts);
        batch.outcome = outcome;
        Step::Done
    }

    fn describe(&self) -> String {
        "redis, in a test".to_owned()
    }
}
