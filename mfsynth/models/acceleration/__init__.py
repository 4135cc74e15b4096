"""The same model, faster or in less memory."""
