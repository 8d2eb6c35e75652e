// Package cloudevents carries CloudEvents (https://cloudevents.io, versions 1.0 and 0.3) over a
// mesh: a protocol binding for the Go SDK github.com/cloudevents/sdk-go/v2.
//
//	jobs, err := n.Push("jobs")                                // n is a *node.Node
//	c, err := client.New(cloudevents.Push(jobs))
//	err = c.Send(ctx, e)                                       // nil: as safe as the socket's level says
//
//	work, err := n.Pull("jobs")
//	c, err := client.New(cloudevents.Pull(work))
//	err = c.StartReceiver(ctx, func(e event.Event) error { ... })  // nil acks, an error nacks
//
// Pub and Sub do the same for channels, Req and Rep for services.
//
// # Binary mode
//
// Each attribute is a header of the message: "ce-" and its name, in small letters, with the
// attribute's canonical text; datacontenttype is the header "content-type". The body is the data.
// As in the NATS and HTTP bindings, but headers of a mesh are UTF-8, so nothing is escaped.
//
//	ce-specversion  1.0
//	ce-type         com.example.order.made
//	ce-source       /shops/basel
//	ce-id           4711
//	content-type    application/json
//	body            {"lamp":3}
//
// # Structured mode
//
// The header "content-type" is application/cloudevents+json, or that of another format that the
// SDK knows, and the body is the whole event. It wins over headers of binary mode.
//
// A sender chooses by context, binding.WithForceStructured, or client.WithForceStructured;
// without it events go in binary mode. Receivers read both.
//
// # What the mesh makes of an event
//
// Pub publishes under the event's type as topic, so a Sub may ask for "com.example.order.>"; a
// type that is no topic is an error of Send. Push takes the extension "partitionkey", if there is
// one, as Key: events of one key are handled one after the other. Replies of services have no
// headers: they are the event in JSON.
//
// Finish acks a received message: with nil or a result that is an ACK. Otherwise it nacks, and
// the event comes again after the sender's back-off, MaxDeliver times. What cannot be read as an
// event is nacked by the SDK, and so becomes a dead letter.
package cloudevents
