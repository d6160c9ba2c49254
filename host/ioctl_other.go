//go:build !linux

package host

func (p probe) askPlatform() ([]byte, error) { return nil, errNotAsked }

func (p probe) askKVM() (KVMOffers, error) { return KVMOffers{}, errNotAsked }

func (p probe) kernelLog() ([]byte, error) { return nil, errNotAsked }
