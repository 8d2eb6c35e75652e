package main

import (
	"fmt"
	"net"
	"strconv"
	"strings"
	"time"
)

// notifier tells systemd how the service is, as sd_notify(3) has it. Without systemd it says nothing.
type notifier struct {
	socket   string
	watchdog time.Duration // 0: none
}

func newNotifier(environ map[string]string) notifier {
	n := notifier{socket: environ["NOTIFY_SOCKET"]}
	if us, err := strconv.ParseInt(environ["WATCHDOG_USEC"], 10, 64); err == nil && us > 0 {
		n.watchdog = time.Duration(us) * time.Microsecond
	}
	if rest, abstract := strings.CutPrefix(n.socket, "@"); abstract {
		n.socket = "\x00" + rest
	}
	return n
}

// every is how often to give a sign of life: twice within the time that the watchdog waits.
func (n notifier) every() time.Duration {
	if n.watchdog == 0 {
		return time.Hour
	}
	return max(n.watchdog/2, time.Millisecond)
}

// say sends one message. If systemd is gone nothing is lost: it will ask in its own way.
func (n notifier) say(text string) {
	if n.socket == "" {
		return
	}
	c, err := net.Dial("unixgram", n.socket)
	if err != nil {
		return
	}
	defer c.Close()
	_, _ = c.Write([]byte(text)) // likewise
}

// reloading says that the configuration is being read, and when that began on systemd's clock.
func reloading() string {
	return fmt.Sprintf("RELOADING=1\nMONOTONIC_USEC=%d", monotonic()/1000)
}
