package gateway

import (
	"errors"

	"peermesh/internal/wire"
	"peermesh/node"
	"peermesh/patterns"
)

// Carry opens the sending end of every queue and channel of the node's namespace that has something on disk, so that what
// was accepted before the last restart is delivered without anybody pushing to it again. It does not wait for that. What
// the program around the gateway has open is left to it; a queue beyond Limits.Names is an error, after all others.
func (g *Gateway) Carry() error {
	s := g.node.Spool()
	if s == nil {
		return nil
	}
	var errs []error
	for _, q := range s.Queues() {
		if q.Namespace != g.node.Namespace() || q.Info.Unsettled == 0 {
			continue
		}
		var r *room
		var err error
		switch {
		case q.Kind == node.QueuePush && patterns.CheckName(wire.Push, q.Name) == nil:
			r, _, err = g.pushTo(q.Name)
		case q.Kind == node.QueuePub && patterns.CheckName(wire.Pub, q.Name) == nil:
			r, _, err = g.pubTo(q.Name)
		default:
			continue
		}
		switch {
		case err == nil:
			r.exit()
		case !errors.Is(err, node.ErrNameInUse):
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}
