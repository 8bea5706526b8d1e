//! Closed loop: a fixed number in flight, the next request when the one before it is answered.

use std::rc::Rc;

use tokio::time::timeout_at;

use super::caller::Caller;
use super::link::Link;
use super::shared::Shared;

/// One of the requests in flight on a link, until the run's end.
pub async fn run(shared: Rc<Shared>, link: Rc<Link>) {
    let mut caller = Caller::new(&shared, &link);
    let end = shared.clock.instant(shared.end);
    while timeout_at(end, link.up()).await.is_ok() {
        let now = shared.clock.now();
        if now >= shared.end {
            return;
        }
        let job = shared.source.borrow_mut().job(now);
        caller.call(job).await;
    }
}
