//! Says hello.
use replug_plugin_api::prelude::*;

struct Hello;

impl Plugin for Hello {
    type Config = ();
    fn prepare(_: (), _: &Context) -> Result<Self> {
        Ok(Hello)
    }
    fn methods(methods: &mut Methods<Self>) {
        methods.method("greet", "Greets by name", |_, call| Ok(format!("Hello, {}!", call.text()?)));
    }
}
export!(Hello);
