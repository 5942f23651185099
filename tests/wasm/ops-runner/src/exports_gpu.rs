//! What `gpu-worker.js` calls and what it provides.

use js_sys::Promise;
use wasm_bindgen::prelude::*;
use wasm_bindgen_futures::future_to_promise;

use crate::backend::gpu::DeviceOptions;
use crate::ops::Test;
use crate::ops_gpu;

#[wasm_bindgen]
extern "C" {
    /// Says why the test that runs has failed; the module is of no use after that.
    #[wasm_bindgen(js_name = testFailed)]
    fn test_failed(message: &str);
}

/// The tests that are there for this browser's adapter.
#[wasm_bindgen]
pub struct Suite(Vec<Option<Test<'static>>>);

#[wasm_bindgen]
impl Suite {
    /// Opens the adapter. `subgroup_min_size` is the number of threads of its smallest subgroup, where devices are made with subgroups;
    /// `packed_dots`, whether WGSL has products of four packed bytes.
    pub async fn open(subgroup_min_size: u32, packed_dots: bool) -> Suite {
        std::panic::set_hook(Box::new(|panic| test_failed(&panic.to_string())));
        let options = DeviceOptions { subgroup_min_size, packed_dots, ..DeviceOptions::default() };
        Self(ops_gpu::tests(options).await.into_iter().map(Some).collect())
    }

    /// The names of the tests.
    pub fn names(&self) -> Vec<String> {
        self.0.iter().flatten().map(|test| test.name.clone()).collect()
    }

    /// Begins a test, once; resolves when it has passed.
    pub fn run(&mut self, index: usize) -> Promise {
        let test = self.0[index].take().expect("a test runs once");
        future_to_promise(async move {
            test.run.await;
            Ok(JsValue::UNDEFINED)
        })
    }
}
