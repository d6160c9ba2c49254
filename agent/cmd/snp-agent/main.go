// Command snp-agent runs inside a guest: see package guestagent.
package main

import "github.com/snplaunch/snplaunch/agent/guestagent"

func main() { guestagent.Main() }
