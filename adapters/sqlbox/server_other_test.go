//go:build !unix

package sqlbox

import (
	"os"
	"testing"
)

// server is the PostgreSQL that SQLBOX_POSTGRES names, if it does.
var (
	server   = os.Getenv("SQLBOX_POSTGRES")
	noServer = "SQLBOX_POSTGRES is not set"
)

func withServer(m *testing.M) int { return m.Run() }
