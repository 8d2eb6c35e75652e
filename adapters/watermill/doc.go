// Package watermill is a Pub/Sub of Watermill on a mesh: no broker, the messages wait on the
// publisher's disk.
//
//	n, err := node.Open(ctx, node.Config{Dir: "state"})
//	mesh := watermill.Open(n, watermill.Config{})
//	publisher, subscriber := mesh.Publisher(), mesh.Subscriber("billing")
//
// A topic is a channel of the mesh, and a consumer group a durable subscription of it: each
// group gets every message, and the subscribers of a group, on whatever nodes, share them.
// Publish returns when the messages are on the disk of the publisher's node. They are owed to
// each group until one of its subscribers has acked them: a process that is killed, a link
// that is lost and a subscriber that is away change nothing in that. A node without a state
// directory is refused.
//
// Sockets live with the node and not with the Publisher: what a closed Publisher has published
// is still delivered, as long as its node runs.
//
// A subscriber gets one message at a time and in order; a nacked one comes again, to the same
// subscriber, until it is acked or the subscription ends. Several subscribers of a group
// overtake each other. A message whose subscriber disappears comes again, so handlers must
// bear duplicates.
package watermill
