package watermill

import (
	"errors"
	"fmt"
	"sync"

	"peermesh/socket"

	"github.com/ThreeDotsLabs/watermill/message"
)

// headerUUID carries Message.UUID.
const headerUUID = "watermill-message-uuid"

// matter is the topic of all messages of a channel.
const matter = "message"

// ErrClosed is a Publisher or Subscriber that was closed.
var ErrClosed = errors.New("watermill: closed")

// Publisher publishes. Safe for concurrent use.
type Publisher struct {
	mesh *Mesh

	mu     sync.RWMutex // held for reading by Publish
	closed bool
}

var _ message.Publisher = (*Publisher)(nil)

// Publisher makes a Publisher.
func (m *Mesh) Publisher() *Publisher { return &Publisher{mesh: m} }

// Publish publishes messages in order, and returns when all are on disk. The context of each
// bounds its wait; after an error those before it are published, and the one that it speaks of
// may be (socket.ErrUnknown). Metadata must be UTF-8.
func (p *Publisher) Publish(topic string, messages ...*message.Message) error {
	p.mu.RLock()
	defer p.mu.RUnlock()
	if p.closed {
		return ErrClosed
	}
	pub, err := p.mesh.pub(topic)
	if err != nil {
		return err
	}
	for _, msg := range messages {
		headers := socket.Headers{headerUUID: msg.UUID}
		for k, v := range msg.Metadata {
			if k == headerUUID {
				return fmt.Errorf("watermill: message %s: metadata %q is reserved", msg.UUID, k)
			}
			headers[k] = v
		}
		if _, err := pub.PublishMessage(msg.Context(), &socket.Message{Topic: matter, Headers: headers, Body: msg.Payload}); err != nil {
			return fmt.Errorf("watermill: message %s: %w", msg.UUID, err)
		}
	}
	return nil
}

// Close waits for Publish calls that are under way. What they published is delivered all the
// same. It may be called twice.
func (p *Publisher) Close() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = true
	return nil
}
