// Package meshtest is a network that exists only in memory, for testing programs that speak over packets.
//
// A [Net] joins sockets made by [Net.Listen]. Each is an ordinary net.PacketConn, so whatever runs over UDP runs over
// it unchanged: a quic.Transport, a node, or a protocol of your own. Between two hosts lies a [Link], which can delay,
// lose, duplicate, reorder, damage, shrink or slow what passes; [Net.Partition] and [Net.Isolate] cut hosts off.
//
//	socket 10.0.0.1:9000 ──WriteTo──▶ link 10.0.0.1 → 10.0.0.2 ──▶ receive queue ──ReadFrom──▶ socket 10.0.0.2:9000
//	                                  partition? too big? rate?     full: dropped
//	                                  lost? copied? late? damaged?
//
// Hosts are IP addresses and need not be declared; any number of sockets may share one. Links are directed: what
// happens from a to b says nothing about b to a.
//
// # Time
//
// Put the test in a testing/synctest bubble and the network keeps the bubble's clock: an hour of heartbeats over a link
// with 200 ms of delay takes milliseconds. Outside a bubble it keeps real time. Two rules hold in a bubble:
//
//   - Make the Net inside the bubble, and use it only there.
//   - Close everything before the bubble's function returns, or synctest reports a deadlock: connections, listeners,
//     transports, sockets, and last the Net, which runs one goroutine. Closing the Net closes its sockets, but a
//     quic.Transport must be closed by its owner.
//
// A test in full:
//
//	synctest.Test(t, func(t *testing.T) {
//		lan := meshtest.NewNet(meshtest.NetConfig{Seed: 1, Default: meshtest.Link{Delay: 5 * time.Millisecond, Loss: 0.02}})
//		defer lan.Close()
//		a, err := lan.Listen(netip.MustParseAddrPort("10.0.0.1:9000"))
//		...
//		transport := &quic.Transport{Conn: a}
//		defer transport.Close()
//		...
//		lan.Isolate(netip.MustParseAddr("10.0.0.1")) // pull the cable
//		time.Sleep(time.Minute)                      // of the bubble's time
//		lan.Heal()
//	})
//
// # What it promises
//
// Chance is drawn from the seed: the fate of a packet is a function of the seed, the two socket addresses and how many
// packets went from the one to the other before. So the same packets meet the same luck in every run, whatever other
// sockets do meanwhile. What is not promised is that the program under test sends the same packets: goroutines that are
// runnable at the same instant run in any order, and most programs use true randomness somewhere. Assert what must
// always hold rather than an exact history; testing/cryptotest.SetGlobalRandom narrows the difference further.
//
// Packets of one link arrive in the order sent, except those picked by Link.Reorder. Nothing is dropped uncounted:
// [Stats] balances at every moment.
//
// # What differs from UDP
//
// A socket here is not a *net.UDPConn, so quic-go works without segmentation offload, ECN and path MTU discovery; its
// packets stay at quic.Config.InitialPacketSize. A packet beyond Link.MTU vanishes as in a tunnel that reports nothing,
// a packet to an address where nobody listens vanishes as if its ICMP answer had been ignored, and partitions are
// silent: WriteTo fails only on a closed socket, a passed deadline, an invalid address, or a packet UDP cannot carry.
// There is no multicast.
package meshtest
