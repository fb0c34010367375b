"""Gates on the blocks of any network: the network is traced, its blocks are found, and each gets a gate. The public
import is `reslab.residual`.
"""
