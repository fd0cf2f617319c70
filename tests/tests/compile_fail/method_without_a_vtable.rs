//! What has no place in a vtable is refused at its place.

use replug_plugin_api::interface::interface;

#[interface(id = "bad.generic", version = "1.0.0")]
pub trait Generic {
    fn put<T>(&self, value: T);
}

#[interface(id = "bad.asynchronous", version = "1.0.0")]
pub trait Asynchronous {
    async fn wait(&self);
}

#[interface(id = "bad.exclusive", version = "1.0.0")]
pub trait Exclusive {
    fn change(&mut self);
}

#[interface(id = "bad.late", version = "1.0.0")]
pub trait Late {
    fn first(&self);
    #[since = "1.1"]
    fn second(&self);
}

fn main() {}
