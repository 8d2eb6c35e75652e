// Package gocloud lets programs that know gocloud.dev/pubsub use a mesh: no broker, the messages
// wait with the sender, on its disk if its node has a state directory.
//
//	orders, err := n.Pub("orders")                               // n is a *node.Node
//	topic := gocloud.PubTopic(orders)                            // a *pubsub.Topic
//
//	billing, err := n.Sub("orders", patterns.DurableName("billing"))
//	subscription := gocloud.SubSubscription(billing)             // a *pubsub.Subscription
//
// A Pub and its Subs are a topic with many subscriptions: each gets every message, and those of
// one DurableName, on whatever nodes, share them. A Push and its Pulls are a topic with one
// subscription that all of them share. Sockets are made as always, so every option of package
// patterns is there; URLOpener makes them from URLs.
//
// Send returns when the message is as safe as the level of the socket says. A message is
// delivered until it is acked: one that is nacked comes again after the sender's back-off, and is
// a dead letter after MaxDeliver times; what a receiver leaves unanswered when it ends comes
// again elsewhere. So handlers must bear duplicates.
//
// A topic exists as long as its socket: after that the error's code is NotFound. Metadata are the
// headers of a message and must be UTF-8.
package gocloud
