// Command echo sends back what connections to a TCP port send, and ends with one that
// said bye.
package main

import (
	"fmt"
	"io"
	"net"
	"os"
)

func main() {
	if err := serve(os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, "echo:", err)
		os.Exit(1)
	}
}

func serve(address string) error {
	l, err := net.Listen("tcp", address)
	if err != nil {
		return err
	}
	for {
		conn, err := l.Accept()
		if err != nil {
			return err
		}
		said, err := io.ReadAll(conn)
		if err == nil {
			_, err = conn.Write(said)
		}
		conn.Close()
		// A connection whose other end has given up meanwhile is no failure.
		if err == nil && string(said) == "bye" {
			return nil
		}
	}
}
