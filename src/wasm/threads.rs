//! Threads in a browser: workers that share the module's memory. The page starts them; each calls [`help`] and comes back when
//! the engine is gone.

use js_sys::{Array, Function, Promise};
use wasm_bindgen::prelude::*;
use wasm_bindgen_futures::JsFuture;

use crate::backend::cpu::Pool;
use crate::backend::cpu::pool::{Helper, MAX_THREADS};
use crate::error::{Error, Result};

/// A pool of `n_threads` threads. `start(module, memory, helpers)` starts a worker for each of the helpers and resolves to those of
/// them that are about to call [`help`], which the others never will; it is called only where the module was built for threads.
///
/// # Errors
/// `unsupported_browser` where `start` fails or gives something else.
pub async fn pool(n_threads: usize, start: &Function) -> Result<Pool> {
    let mut pool = Pool::default();
    let n_helpers = n_threads.clamp(1, MAX_THREADS) - 1;
    if n_helpers == 0 || !cfg!(target_feature = "atomics") {
        return Ok(pool);
    }
    let helpers = Array::new();
    for _ in 0..n_helpers {
        // Given back by the worker, in `help`.
        let address = Box::into_raw(Box::new(pool.helper())) as usize;
        helpers.push(&JsValue::from_f64(address as f64));
    }
    let started = start.call3(&JsValue::NULL, &wasm_bindgen::module(), &wasm_bindgen::memory(), &helpers);
    let failed = |thrown: JsValue| {
        let why = thrown.dyn_ref::<js_sys::Error>().map_or_else(|| format!("{thrown:?}"), |e| String::from(e.message()));
        Error::unsupported_browser(format!("The engine's threads could not be started ({why}). Load the model with threads: 1."))
    };
    let started = started.and_then(|promise| promise.dyn_into::<Promise>()).map_err(failed)?;
    let came = JsFuture::from(started).await.map_err(failed)?.dyn_into::<Array>().map_err(failed)?;
    for helper in helpers.iter().filter(|helper| !came.includes(helper, 0)) {
        // SAFETY: the address is one that was made above, and of a helper that nobody else has or will have.
        drop(unsafe { Box::from_raw(helper.as_f64().unwrap_or_default() as usize as *mut Helper) });
    }
    // They are on their last steps to the pool; work that comes sooner waits for nobody.
    pool.expect_helpers(came.length() as usize);
    Ok(pool)
}

/// Lends the calling worker to the pool until the engine is gone.
#[wasm_bindgen]
pub fn help(helper: usize) {
    // SAFETY: the address is one that `pool` gave to this worker alone.
    let helper = unsafe { Box::from_raw(helper as *mut Helper) };
    helper.work();
}

/// What a worker calls whose [`help`] did not come back but trapped: its part of an op will never be done.
#[wasm_bindgen]
pub fn thread_is_lost() {
    crate::backend::cpu::sync::thread_is_lost();
}
