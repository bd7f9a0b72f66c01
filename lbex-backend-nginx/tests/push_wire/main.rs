//! The responder on real sockets, asked as NGINX's resolver asks: a question for each family with an id of its own, repeated where no
//! answer comes, and a new pair as soon as both are answered.

mod answers;
#[path = "../common/net.rs"]
mod net;
mod resolver;
mod restart;
mod strangers;
mod tcp;
