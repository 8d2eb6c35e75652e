package metrics

import (
	"peermesh/node"
	"peermesh/spool"

	"github.com/prometheus/client_golang/prometheus"
)

var (
	spoolUsed     = gauge("spool_used_bytes", "Bytes of messages that wait in the state directory, which the quota bounds.")
	spoolQuota    = gauge("spool_quota_bytes", "Bound of spool_used_bytes; 0 if there is none.")
	spoolDisk     = gauge("spool_disk_bytes", "Bytes that the spool takes on the file system, without its ballast.")
	spoolReserve  = gauge("spool_reserve_bytes", "Bytes of the file system that are kept free.")
	spoolReadOnly = gauge("spool_read_only", "1 if the disk has failed and nothing is written until the next start.")
	spoolDamaged  = gauge("spool_damaged", "1 if something was found to be lost when the state directory was opened.")
	deadLetters   = gauge("dead_letters", "Dead letters on disk: of a Push, or of durable subscriptions of a Pub.", "kind", "name")

	spoolSync = describe("spool_sync_seconds", "Time to bring a group of changes to the disk, synced.", nil)
)

// disk reads the spool, if there is one.
func (m *Metrics) disk(s *sheet, ch chan<- prometheus.Metric) {
	sp := m.node.Spool()
	if sp == nil {
		return
	}
	st := sp.Stat()
	s.add(spoolUsed, float64(st.Used))
	s.add(spoolQuota, float64(st.Quota))
	s.add(spoolDisk, float64(st.Disk))
	s.add(spoolReserve, float64(st.Reserve))
	s.add(spoolReadOnly, truth(st.Failed != nil))
	s.add(spoolDamaged, truth(st.Damage != nil))
	ch <- prometheus.MustNewConstHistogram(spoolSync, st.Syncs.Count, st.Syncs.Sum.Seconds(), cumulative(st.Syncs))
	m.dead(s, sp)
}

// cumulative makes Prometheus' buckets: each has those of the ones before, too.
func cumulative(t spool.Timing) map[float64]uint64 {
	buckets := make(map[float64]uint64, spool.TimingBuckets)
	var sum uint64
	for i, n := range t.Buckets {
		sum += n
		buckets[spool.TimingBound(i).Seconds()] = sum
	}
	return buckets
}

// dead counts dead letters, of the node's own namespace. Their names are labels like those of
// sockets, but those that have no socket now are all folded.
func (m *Metrics) dead(s *sheet, sp *node.Spool) {
	for _, q := range sp.Queues() {
		kind := map[string]string{node.QueueDead: "push", node.QueuePubDead: "pub"}[q.Kind]
		if kind == "" || q.Namespace != m.node.Namespace() {
			continue
		}
		name := q.Name
		if !m.names.has(kind + separator + name) {
			name = other
		}
		s.add(deadLetters, float64(q.Info.Unsettled), kind, name)
	}
}
